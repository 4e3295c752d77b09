import pytest
import torch

from lightning_cnn.checkpoint import FORMAT, Description, class_path, label_smoothing, read_description


def test_a_checkpoint_holds_plain_types_only(fit):
    run = fit("mnist/deep_cnn.yaml", "--data.batch_size", 20, "--trainer.limit_train_batches", 1)

    for name in ("best", "last"):
        content = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert not list(foreign_objects(content))


def foreign_objects(value: object, path: str = "checkpoint"):
    """Yield the path of each value that is neither plain nor a tensor."""
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) not in (str, int):
                yield f"key {key!r} of {path}"
            yield from foreign_objects(item, f"{path}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            yield from foreign_objects(item, f"{path}[{index}]")
    elif type(value) not in (str, int, float, bool, type(None), torch.Tensor):
        yield f"{path} is a {type(value)}"


def test_a_checkpoint_describes_itself(fit):
    run = fit("fashion_mnist/shallow_cnn.yaml", "--model.mean", 0.25)

    description = read_description(run / "checkpoints" / "last.ckpt")

    assert set(description) == Description.__annotations__.keys()
    assert description["format"] == FORMAT
    model, data = description["config"]["model"], description["config"]["data"]
    assert model["class_path"] == "lightning_cnn.classifiers.ShallowCNNClassifier"
    assert model["init_args"]["optimizer"]["init_args"]["momentum"] == 0.9
    assert model["init_args"]["mean"] == 0.25
    assert data["class_path"] == "lightning_cnn.data.FashionMNISTDataModule"
    assert data["init_args"]["val_size"] == 50
    assert description["class_names"][:2] == ["T-shirt/top", "Trouser"]
    assert description["framing"] == {"side": 28, "by_mass": False}
    assert description["preprocessing"] == {"mean": 0.25, "std": 0.5}
    assert 0 <= description["metrics"]["val/acc"] <= 1
    assert description["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_a_checkpoint_of_lightnings_trainer_describes_itself(tiny_data, trainer, tmp_path):
    from lightning_cnn.classifiers import MLPClassifier
    from lightning_cnn.data import MNISTDataModule

    run = trainer()
    run.fit(MLPClassifier(std=0.5), datamodule=MNISTDataModule(val_size=50))
    run.save_checkpoint(tmp_path / "some.ckpt")

    config = read_description(tmp_path / "some.ckpt")["config"]

    statistics, shape = {"mean": 0.0, "std": 0.5}, {"num_classes": 10, "in_channels": 1, "image_size": 28}
    others = {"label_smoothing": 0.0, "class_weights": None, "test_time_flip": False, "test_time_shift": 0}
    assert config["model"]["init_args"] == {**statistics, **shape, **others}
    assert config["model"]["class_path"].endswith(".MLPClassifier")
    assert config["data"]["class_path"].endswith(".MNISTDataModule")
    assert config["data"]["init_args"]["val_size"] == 50


def test_without_a_data_module_class_names_and_framing_are_none(trainer, tmp_path):
    from lightning_cnn.classifiers import MLPClassifier

    run = trainer()
    loader = torch.utils.data.DataLoader([(torch.zeros(1, 28, 28, dtype=torch.uint8), 0)] * 2)
    run.fit(MLPClassifier(), loader, loader)
    run.save_checkpoint(tmp_path / "some.ckpt")

    description = read_description(tmp_path / "some.ckpt")

    assert (description["class_names"], description["framing"]) == (None, None)
    assert list(description["config"]) == ["model"]


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"model": {"class_path": "a.Net"}}, "a.Net"),
        ({"model": {"class_path": "Net"}}, "Net"),
        ({"model": {"class_path": "a..Net"}}, None),
        ({"model": {"class_path": ["a.Net"]}}, None),
        ({"model": None}, None),
        ({"data": {"class_path": "a.Data"}}, None),
    ],
)
def test_class_path_is_a_dotted_name_or_none(config, path):
    assert class_path({"config": config}, "model") == path


@pytest.mark.parametrize(
    ("arguments", "smoothing"),
    [
        ({"label_smoothing": 0.1}, 0.1),
        (
            {"label_smoothing": 0, "loss": {"class_path": "CrossEntropyLoss", "init_args": {"label_smoothing": 0.2}}},
            0.2,
        ),
        ({"loss": {"class_path": "FocalLoss"}}, 0),
        ({"label_smoothing": "much", "loss": ["no loss"]}, 0),
        ({"label_smoothing": 7}, 0),
        (None, 0),
    ],
)
def test_label_smoothing_is_that_of_the_model_or_of_its_loss(arguments, smoothing):
    assert label_smoothing({"config": {"model": {"class_path": "a.Net", "init_args": arguments}}}) == smoothing
    assert label_smoothing({"config": {}}) == 0
