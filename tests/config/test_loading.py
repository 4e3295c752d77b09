import copy
import resource
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from torch import nn

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn import classifiers
from lightning_cnn.classifiers import FastCNNClassifier, ImageClassifier, MLPClassifier
from lightning_cnn.classifiers.network import config_of
from lightning_cnn.config.classes import trusted_class
from lightning_cnn.config.loading import load_classifier
from lightning_cnn.errors import UserError
from lightning_cnn.networks import CNN

#: Those whose classifier builds its network itself: Lightning's own loading gives it none.
CONFIGS = sorted(
    path
    for path in (Path(__file__).parents[2] / "configs").glob("*mnist/*.yaml")
    if "network" not in yaml.safe_load(path.read_text())["model"]["init_args"]
)
IMAGES = torch.randint(256, (4, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

WIDE_MLP = """
from pathlib import Path
from torch import nn
from torch.optim import Adam
from lightning_cnn.classifiers import ImageClassifier

Path("imported").touch()

class WideMLPClassifier(ImageClassifier):
    def __init__(self, optimizer=Adam, width: int = 2048) -> None:
        super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10)), optimizer)

class NotAClassifier:
    pass
"""


@pytest.fixture
def wide_mlp(user_module) -> str:
    """A user's module with a unique name; importing it creates the file `imported`."""
    return user_module("wide_mlp", WIDE_MLP)


def content_of(classifier: ImageClassifier, class_path: str | None = None) -> dict:
    """The entries of a checkpoint of the classifier that `load_classifier` reads."""
    cls = type(classifier)
    model = {"class_path": class_path or f"{cls.__module__}.{cls.__qualname__}", "init_args": {}}
    return {
        "state_dict": classifier.state_dict(),
        "hyper_parameters": dict(classifier.hparams),
        checkpoints.KEY: {"config": {"model": model}},
    }


@pytest.fixture
def content() -> dict:
    return copy.deepcopy(content_of(MLPClassifier()))


def refusal(content: dict, model: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        load_classifier(content, model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_logits_agree_with_load_from_checkpoint_for_every_config(config, fit):
    few = ("--trainer.limit_train_batches", 1, "--trainer.limit_val_batches", 1, "--trainer.precision", "32-true")
    path = fit(config, *few) / "checkpoints" / "best.ckpt"
    content = checkpoints.read(path)

    classifier = load_classifier(content)

    cls = getattr(classifiers, content[checkpoints.KEY]["config"]["model"]["class_path"].rpartition(".")[2])
    expected = cls.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
    assert type(classifier) is cls
    assert not classifier.training
    with torch.no_grad():
        assert torch.equal(classifier(IMAGES), expected(IMAGES))


def test_hyperparameters_are_restored():
    trained = MLPClassifier(mean=0.25, std=0.75, num_classes=26)

    classifier = load_classifier(content_of(trained))

    assert classifier.num_classes == 26
    assert (classifier.mean.item(), classifier.std.item()) == (0.25, 0.75)


def test_low_precision_weights_are_converted_to_float32():
    classifier = load_classifier(content_of(MLPClassifier().bfloat16()))

    assert {parameter.dtype for parameter in classifier.parameters()} == {torch.float32}


# Classes


def test_a_class_of_the_user_is_imported_if_it_is_named(wide_mlp):
    module = __import__(wide_mlp)
    trained = module.WideMLPClassifier(width=32)
    del sys.modules[wide_mlp]

    classifier = load_classifier(content_of(trained), f"{wide_mlp}.WideMLPClassifier")

    assert type(classifier).__name__ == "WideMLPClassifier"
    with torch.no_grad():
        assert torch.equal(classifier(IMAGES), trained(IMAGES))


def test_a_class_of_this_package_can_be_named_without_its_module(content):
    assert type(load_classifier(content, "MLPClassifier")) is MLPClassifier


def test_a_class_that_the_checkpoint_names_is_not_imported(wide_mlp, content):
    content[checkpoints.KEY]["config"]["model"]["class_path"] = f"{wide_mlp}.WideMLPClassifier"

    assert refusal(content) == (
        f"the checkpoint names the class {wide_mlp}.WideMLPClassifier, which is not one of lightning-cnn; "
        f"if it is your own classifier, add `--model {wide_mlp}.WideMLPClassifier`"
    )
    assert not Path("imported").exists()
    assert wide_mlp not in sys.modules


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "lightning_cnn.cli.main",
        "lightning_cnn.__main__.run",
        "lightning_cnn.classifiers.base.os",
        "lightning_cnn.config.loading.import_module",
        "lightning_cnn.classifiers.zoo.CNN",
        "MLPClassifier",
    ],
)
def test_classes_of_other_modules_are_rejected(content, path):
    content[checkpoints.KEY]["config"]["model"]["class_path"] = path

    assert refusal(content).startswith(f"the checkpoint names the class {path}, which is not one of lightning-cnn; ")


def test_the_base_class_is_rejected(content):
    content[checkpoints.KEY]["config"]["model"]["class_path"] = "lightning_cnn.classifiers.ImageClassifier"

    assert "the checkpoint does not name its network" in refusal(content)


@pytest.mark.parametrize("path", [None, 5, "", "a b.C", "os.system('x')", "evil\n.C", "a..B"])
def test_an_invalid_class_path_is_not_printed(content, path):
    content[checkpoints.KEY]["config"]["model"]["class_path"] = path

    assert refusal(content) == "the checkpoint does not name its class; name it with `--model`"


@pytest.mark.parametrize("path", ["os.nothing", "Nothing", ".a", ""])
def test_an_unknown_class_is_named(content, path):
    assert refusal(content, path).startswith(f"--model {path}: there is no such class (")


@pytest.mark.parametrize("path", ["nowhere.Classifier", "wide-mlp.C", "os..a"])
def test_an_unknown_module_is_named(content, path):
    assert refusal(content, path).startswith(f"--model {path}: there is no module {path.rpartition('.')[0]!r} on")


@pytest.mark.parametrize(
    ("code", "error"), [("1 +", "SyntaxError"), ("missing", "NameError"), ("import nowhere", None), ("1 / 0", "Zero")]
)
def test_a_module_of_the_user_that_fails_is_named(content, tmp_path, monkeypatch, code, error):
    monkeypatch.syspath_prepend(tmp_path)
    name = f"broken_{len(code)}"
    (tmp_path / f"{name}.py").write_text(code)
    why = f"the module {name} cannot be imported ({error}" if error else "there is no module 'nowhere' on Python's path"

    assert refusal(content, f"{name}.Net").startswith(f"--model {name}.Net: {why}")
    content[checkpoints.KEY]["config"]["model"]["class_path"] = f"{name}.Net"
    with pytest.raises(UserError) as caught:
        trusted_class(f"{name}.Net", (nn.Module,), named=[f"{name}.Net"])
    assert str(caught.value).startswith(f"{name}.Net: {why}")


@pytest.mark.parametrize("name", ["NotAClassifier", "nn", "ImageClassifier"])
def test_a_class_of_the_user_must_be_a_classifier(wide_mlp, content, name):
    assert refusal(content, f"{wide_mlp}.{name}").startswith(
        f"{wide_mlp}.{name} is neither a subclass of ImageClassifier nor a network"
    )


# Networks


OWN_NET = """
from pathlib import Path
from torch import nn
from lightning_cnn.classifiers import ImageClassifier

Path("imported").touch()

class Net(nn.Module):
    def __init__(self, num_classes: int, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.Linear(width, num_classes))

    def forward(self, images):
        return self.layers(images)

def build(num_classes, width=4):
    return Net(num_classes, width)

class Mine(ImageClassifier):
    def __init__(self, network, gain: float = 1.0, **kwargs) -> None:
        super().__init__(network, **kwargs)
        self.gain = gain
"""


@pytest.fixture
def own_net(user_module) -> str:
    return user_module("own_net", OWN_NET)


@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 32)])
def test_a_network_of_torchvision_is_restored(channels, side):
    options = {"num_classes": 4, "in_channels": channels, "image_size": side, "test_time_flip": True}
    trained = ImageClassifier(torchvision.models.resnet18, mean=[0.5] * channels, **options)
    content = content_of(trained)
    network = {"class_path": "torchvision.models.resnet18", "init_args": {"weights": "DEFAULT"}}  # nothing is loaded
    content[checkpoints.KEY]["config"]["model"]["init_args"]["network"] = network

    classifier = load_classifier(content)

    images = torch.randint(256, (2, channels, side, side), dtype=torch.uint8)
    assert classifier.test_time_flip
    with torch.no_grad():
        assert torch.equal(classifier(images), trained.eval()(images))


@pytest.mark.parametrize("name", ["Net", "build"])
def test_a_network_of_the_user_is_imported_if_it_is_named(own_net, name):
    module = __import__(own_net)
    trained = ImageClassifier(partial(getattr(module, name), width=5), num_classes=4)
    content = content_of(trained)
    network = {"class_path": f"{own_net}.{name}", "init_args": {"width": 5}}
    content[checkpoints.KEY]["config"]["model"]["init_args"]["network"] = network
    del sys.modules[own_net]
    Path("imported").unlink()

    assert refusal(content).startswith(f"the checkpoint names the network {own_net}.{name}, which is not one of")
    assert not Path("imported").exists()

    classifier = load_classifier(content, f"{own_net}.{name}")

    with torch.no_grad():
        assert torch.equal(classifier(IMAGES), trained.eval()(IMAGES))


def test_a_classifier_of_the_user_gets_its_network(own_net):
    module = __import__(own_net)
    trained = module.Mine(CNN, num_classes=4)
    content = content_of(trained)
    content[checkpoints.KEY]["config"]["model"]["init_args"]["network"] = config_of(CNN)

    classifier = load_classifier(content, f"{own_net}.Mine")

    assert isinstance(classifier.network, CNN)
    content[checkpoints.KEY]["config"]["model"]["init_args"]["network"]["class_path"] = f"{own_net}.build"
    assert "names the network" in refusal(content, f"{own_net}.Mine")  # a function that the user has not named


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "subprocess.call",
        "torch.hub.load",
        "torchvision.models.get_model",
        "torchvision.models.segmentation.fcn_resnet50",
        "torchmetrics.text.BERTScore",
        "lightning_cnn.cli.main",
    ],
)
def test_a_checkpoint_cannot_name_anything_else_as_its_network(path):
    content = content_of(ImageClassifier(CNN))
    network = {"class_path": path, "init_args": {"name": "resnet18", "weights": "DEFAULT"}}
    content[checkpoints.KEY]["config"]["model"]["init_args"]["network"] = network
    content["hyper_parameters"]["network"] = network

    assert refusal(content).startswith(f"the checkpoint names the network {path}, which is not one of")


def test_the_weights_of_a_loss_are_ignored():
    trained = ImageClassifier(CNN, num_classes=3, loss=nn.CrossEntropyLoss(torch.ones(3)))
    content = content_of(trained)
    content[checkpoints.KEY]["config"]["model"]["init_args"] |= {
        "network": config_of(CNN),
        "loss": {"class_path": "os.system"},
        "metrics": {"f1": {"class_path": "os.system"}},
    }

    classifier = load_classifier(content)

    assert classifier.loss is None
    assert any(name.startswith("loss.") for name in content["state_dict"])


# Contents


def test_other_shapes_are_rejected(content):
    assert refusal(content, "CNNClassifier").startswith("the checkpoint is of another architecture: the model has ")


@pytest.mark.parametrize("settings", [{"num_classes": 1}, {"std": 0.0}, {"num_classes": "ten"}, {"mean": [0.1]}])
def test_invalid_hyperparameters_are_rejected(content, settings):
    content["hyper_parameters"] |= settings

    with pytest.raises(UserError, match=r"does not accept the hyperparameters|another architecture"):
        load_classifier(content)


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_weights_of_other_types_are_rejected(content, dtype):
    content["state_dict"]["network.layers.1.bias"] = torch.zeros(512, dtype=dtype)

    kind = "complex" if dtype.is_complex else "integer"
    assert f"has (512,) for network.layers.1.bias, the checkpoint (512,) {kind}; leave" in refusal(content)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_classes": 10**9},
        {"channels": 10**9},
        {"channels": 10**30},
        {"channels": 10**9, "hidden": 10**9},
        {"channels": 64.0},
        {"channels": True},
        {"hidden": None},
    ],
)
def test_hyperparameters_that_do_not_fit_the_weights_allocate_no_memory(settings):
    content = content_of(FastCNNClassifier())
    content["hyper_parameters"] |= settings
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert refusal(content)[:22] in ("the checkpoint is of a", "FastCNNClassifier does")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # in KiB


def test_a_class_of_the_user_that_cannot_be_allocated_is_rejected(wide_mlp):
    module = __import__(wide_mlp)
    content = content_of(module.WideMLPClassifier(width=32))
    content["hyper_parameters"]["width"] = 10**13

    assert refusal(content, f"{wide_mlp}.WideMLPClassifier").startswith(
        "WideMLPClassifier does not accept the hyperparameters"
    )


def test_unknown_hyperparameters_are_ignored(content):
    content["hyper_parameters"]["network"] = "x"

    load_classifier(content)


def test_an_unknown_class_of_this_package_is_answered_with_the_known_ones(content):
    assert refusal(content, "CNNClasifier").endswith("; did you mean 'CNNClassifier'?")
    assert "choose from CNNClassifier, DeepCNNClassifier," in refusal(content, "Foo")
