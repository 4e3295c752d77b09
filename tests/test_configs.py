import pytest
import yaml

from lightning_cnn import networks

#: Of each config: model, dataset, optimizer and its arguments, schedule, batch size, epochs.
RECIPES = {
    "fashion_mnist/shallow_cnn": ("ShallowCNN", "FashionMNIST", "SGD", {"momentum": 0.9}, None, 64, 2),
    "mnist/deep_cnn": ("DeepCNN", "MNIST", "SGD", {"momentum": 0.9}, "StepLR", 512, 20),
    "fashion_mnist/simple_cnn": ("SimpleCNN", "FashionMNIST", "Adam", {}, None, 64, 5),
    "fashion_mnist/mlp": ("MLP", "FashionMNIST", "SGD", {}, None, 64, 10),  # 5 or more
    "mnist/cnn": ("CNN", "MNIST", "Adam", {}, None, 64, 5),
}
LEARNING_RATES = {"fashion_mnist/mlp": 0.01}  # only this one was published
#: The configs of our own: dataset, mean and standard deviation of its pixels, epochs.
FAST = {"mnist/fast": ("MNIST", 0.1307, 0.3081, 1), "fashion_mnist/fast": ("FashionMNIST", 0.286, 0.353, 2)}
#: Those with few parameters: the most that they may have, dataset, mean and standard deviation of its pixels.
SMALL = {
    "mnist/tiny": (10_000, "MNIST", 0.1307, 0.3081),
    "mnist/small": (200_000, "MNIST", 0.1307, 0.3081),
    "fashion_mnist/tiny": (100_000, "FashionMNIST", 0.286, 0.353),
    "fashion_mnist/small": (1_000_000, "FashionMNIST", 0.286, 0.353),
}

every_config = pytest.mark.parametrize("name", RECIPES)


@pytest.fixture
def config(configs, name):
    return yaml.safe_load((configs / f"{name}.yaml").read_text())


def test_there_are_no_other_configs(configs):
    found = {str(path.relative_to(configs).with_suffix("")) for path in configs.rglob("*.yaml")}

    assert found == {
        *RECIPES,
        *FAST,
        *SMALL,
        "folder",
        "cifar10_folder",
        "default",
        "sweeps/cnn",
        "sweeps/learning_rate",
    }


@every_config
def test_recipe(config, name):
    network, dataset, optimizer, settings, scheduler, batch_size, epochs = RECIPES[name]
    model, data = config["model"], config["data"]

    assert model["class_path"] == f"lightning_cnn.classifiers.{network}Classifier"
    assert data["class_path"] == f"lightning_cnn.data.{dataset}DataModule"
    assert model["init_args"]["optimizer"]["class_path"] == f"torch.optim.{optimizer}"
    assert {k: v for k, v in model["init_args"]["optimizer"]["init_args"].items() if k != "lr"} == settings
    schedule = model["init_args"].get("scheduler", {"class_path": None})["class_path"]
    assert schedule == (scheduler and f"torch.optim.lr_scheduler.{scheduler}")
    assert data["init_args"]["batch_size"] == batch_size
    assert config["trainer"]["max_epochs"] == epochs


@pytest.mark.parametrize("name", LEARNING_RATES)
def test_published_learning_rates(config, name):
    assert config["model"]["init_args"]["optimizer"]["init_args"]["lr"] == LEARNING_RATES[name]


@every_config
def test_no_config_changes_the_published_input_range_or_the_split(config, name):
    assert not {"mean", "std", "num_classes"} & set(config["model"]["init_args"])
    assert not {"val_size", "data_dir", "allow_sample"} & set(config["data"]["init_args"])


@pytest.mark.parametrize("name", ["mnist/deep_cnn"])
def test_the_published_augmentation(config):
    augment = config["data"]["init_args"]["augment"]

    assert augment["class_path"].endswith(".CropAndRotate")
    assert augment["init_args"]["max_degrees"] == 15
    assert 0 < augment["init_args"]["crop_probability"] < 1
    assert augment["init_args"]["crop_size"] < 28


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"mnist/deep_cnn"}))
def test_the_others_have_no_augmentation(config):
    assert "augment" not in config["data"]["init_args"]


@pytest.mark.parametrize(
    ("name", "callback", "settings"),
    [
        ("mnist/cnn", "SaveWeights", {"filename": "cnn_model.pth"}),
        ("fashion_mnist/mlp", "PrintLoss", {"every_n_batches": 100}),
    ],
)
def test_published_extras(config, callback, settings):
    callbacks = {c["class_path"].rpartition(".")[2]: c.get("init_args", {}) for c in config["trainer"]["callbacks"]}

    assert callbacks[callback] == settings


def test_every_run_has_a_seed(configs):
    assert yaml.safe_load((configs / "default.yaml").read_text())["seed_everything"] == 0


@pytest.mark.parametrize("name", FAST)
def test_fast_recipe(config, name):
    dataset, mean, std, epochs = FAST[name]
    model, data = config["model"], config["data"]

    assert model["class_path"] == "lightning_cnn.classifiers.FastCNNClassifier"
    assert (model["init_args"]["mean"], model["init_args"]["std"]) == (mean, std)
    assert data["class_path"] == f"lightning_cnn.data.{dataset}DataModule"
    assert config["trainer"]["max_epochs"] == epochs
    assert not {"val_size", "data_dir", "allow_sample", "augment"} & set(data["init_args"])


@pytest.mark.parametrize("name", FAST)
def test_a_fast_schedule_takes_its_length_from_the_run(config):
    scheduler = config["model"]["init_args"]["scheduler"]

    assert scheduler["class_path"] == "torch.optim.lr_scheduler.OneCycleLR"
    assert not {"total_steps", "epochs", "steps_per_epoch"} & set(scheduler["init_args"])


@pytest.mark.parametrize("name", FAST)
def test_a_fast_run_draws_no_plots(config):
    assert config["plots"] == {"enabled": False}
    assert config["trainer"]["num_sanity_val_steps"] == 0


@pytest.mark.parametrize("name", SMALL)
def test_a_small_network_has_few_parameters(config, name):
    most, dataset, mean, std = SMALL[name]
    model, data = config["model"]["init_args"], config["data"]
    network = getattr(networks, model["network"]["class_path"].removeprefix("lightning_cnn.networks."))

    assert sum(weights.numel() for weights in network(**model["network"]["init_args"]).parameters()) < most
    assert data["class_path"] == f"lightning_cnn.data.{dataset}DataModule"
    assert (model["mean"], model["std"]) == (mean, std)
    assert not {"val_size", "data_dir", "allow_sample"} & set(data["init_args"])
