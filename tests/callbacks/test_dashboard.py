import csv
import json
import random
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from idx import idx_files
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util.tensor_util import make_ndarray
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from lightning_cnn.callbacks import Dashboard
from lightning_cnn.callbacks.hyperparameters import hyperparameters
from lightning_cnn.callbacks.tensorboard import TensorBoard
from lightning_cnn.classifiers import ImageClassifier, MLPClassifier, ShallowCNNClassifier
from lightning_cnn.cli import main
from lightning_cnn.data import FashionMNISTDataModule, MNISTDataModule
from lightning_cnn.data.facts import TEST_IMAGES
from lightning_cnn.data.fashion_mnist import FASHION_MNIST

MLP = "fashion_mnist/mlp.yaml"
CNN = "mnist/cnn.yaml"
SHALLOW_CNN = "fashion_mnist/shallow_cnn.yaml"
EXACT = ("--trainer.precision", "32-true", "--dashboard.enabled", "true")
#: The settings of the shared run.
TRAINED = (
    *("--trainer.max_epochs", "4", "--trainer.log_every_n_steps", "1", "--model.optimizer.lr", "0.02"),
    *("--data.val_size", "50", "--data.batch_size", "40"),
)
CONFIGS = Path(__file__).parents[2] / "configs"
#: A slash would begin a level of the tags.
PER_CLASS = [f"val_acc_per_class/{name.replace('/', ' or ')}" for name in FASHION_MNIST.classes]
BESIDES_SCALARS = ("images", "histograms", "tensors", "graph")


def events(folder: Path) -> EventAccumulator:
    """The events that TensorBoard finds in a folder."""
    return EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0}).Reload()


def curve(run: Path | EventAccumulator, name: str) -> list[tuple[int, float]]:
    found = run if isinstance(run, EventAccumulator) else events(run)
    return [(event.step, event.value) for event in found.Scalars(name)] if name in found.Tags()["scalars"] else []


def metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def logged(run: Path, name: str) -> list[tuple[int, float]]:
    """Steps and values of a column of `metrics.csv`, in float32 as TensorBoard has them."""
    return [(int(row["step"]), float(np.float32(row[name]))) for row in metrics(run) if row[name]]


def best(run: Path) -> dict[str, float]:
    """The metrics of the best validation in `metrics.csv`, and its step."""
    row = max((row for row in metrics(run) if row["val/acc"]), key=lambda row: float(row["val/acc"]))
    return {"step": int(row["step"]), "acc": float(row["val/acc"]), "loss": float(row["val/loss"])}


def predictions(run: Path) -> list[dict[str, str]]:
    with (run / "test_predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def session(found: EventAccumulator) -> tuple[dict[str, str | float], list[str]]:
    """The hyperparameters of a run in the HParams tab, and the tags of its metrics."""
    contents = [
        HParamsPluginData.FromString(found.summary_metadata[f"_hparams_/{name}"].plugin_data.content)
        for name in ("experiment", "session_start_info")
    ]
    values = contents[1].session_start_info.hparams.items()
    columns = [metric.name.tag for metric in contents[0].experiment.metric_infos]
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in values}, columns


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def run(tmp_path_factory, _tiny_datasets):
    """A tested run with all its figures, whose network still makes mistakes; not to be changed."""
    folder, facts = _tiny_datasets
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    logs = ("--trainer.default_root_dir", str(tmp_path_factory.mktemp("logs")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FashionMNISTDataModule, "facts", facts["fashion_mnist"])
        patch.setenv("LIGHTNING_CNN_DATA_DIR", str(folder))
        assert main(["fit", "--config", str(CONFIGS / SHALLOW_CNN), *logs, *TRAINED, *EXACT]) == 0
        assert main(["test", "--ckpt_path", "best", *logs]) == 0
    torch.set_num_threads(threads)
    return Path(logs[1]) / "fashion_mnist-shallow_cnn" / "version_0"


@pytest.fixture(scope="module")
def found(run):
    return events(run)


@pytest.fixture
def copy(run, tiny_data):
    """A copy of that run, to be changed."""
    return Path(shutil.copytree(run, "logs/fashion_mnist-shallow_cnn/version_0"))


# The curves


def test_every_metric_of_metrics_csv_is_in_the_events(run, found):
    names = set(metrics(run)[0]) - {"epoch", "step"}
    assert names == {"train/loss", "train/acc", "val/loss", "val/acc", "train/loss_step", "lr-SGD"}
    for name in names:
        # Lightning logs the learning rate twice at the start of an epoch.
        tag = "train/lr-SGD" if name == "lr-SGD" else name
        assert list(dict.fromkeys(curve(found, tag))) == logged(run, name)
    assert len(curve(found, "train/loss_step")) == 16  # four epochs of 150 images in batches of 40
    assert [step for step, _ in curve(found, "val/acc")] == [3, 7, 11, 15]


def test_the_first_sections_of_a_run_are_training_and_validation(trainer, tiny_data, tmp_path):
    run = trainer(max_epochs=1, callbacks=[Dashboard()], logger=TensorBoard(tmp_path))
    run.fit(ShallowCNNClassifier(), datamodule=FashionMNISTDataModule(val_size=50))

    sections = dict.fromkeys(tag.partition("/")[0] for tag in sorted(events(tmp_path).Tags()["scalars"]))
    assert [*sections] == ["train", "val", "val_acc_per_class"]


def test_the_accuracies_per_class_average_to_the_accuracy(run, found):
    of_classes = np.array([[value for _, value in curve(found, name)] for name in PER_CLASS])
    # Every class has five of the fifty validation images.
    assert of_classes.mean(axis=0).tolist() == pytest.approx([value for _, value in logged(run, "val/acc")])
    assert [step for step, _ in curve(found, PER_CLASS[0])] == [step for step, _ in logged(run, "val/acc")]


def test_charts_show_training_and_validation_together(found):
    layout = Layout.FromString(found.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    charts = {chart.title: chart.multiline.tag for category in layout.category for chart in category.chart}
    scalars = found.Tags()["scalars"]
    shown = {title: {s for s in scalars if any(re.match(tag, s) for tag in tags)} for title, tags in charts.items()}
    assert shown == {
        "loss": {"train/loss", "val/loss"},
        "accuracy": {"train/acc", "val/acc"},
        "validation accuracy per class": {s for s in scalars if s.startswith("val_acc_per_class/")},
    }


# Text, images, curves


def test_the_config_is_shown(run, found):
    text = found.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()

    shown = re.fullmatch(r"```yaml\n(.*)```", text, flags=re.DOTALL)
    assert yaml.safe_load(shown[1]) == yaml.safe_load((run / "config.yaml").read_text())


def test_images_are_the_plots_of_the_run_at_the_step_of_their_weights(run, found):
    of_training = {f"training/{name}" for name in ("samples", "confusion_matrix", "filters", "feature_maps")}
    of_test = {f"test/{name}" for name in ("mistakes", "predictions", "confusion_matrix", "calibration")}
    assert set(found.Tags()["images"]) == of_training | of_test
    for tag, step in {"training/samples": 0, **dict.fromkeys(of_test, best(run)["step"])}.items():
        (image,) = found.Images(tag)
        assert image.step == step
        assert image.encoded_image_string == (run / "plots" / f"{tag.partition('/')[2]}.png").read_bytes()
    assert [image.step for image in found.Images("training/confusion_matrix")] == [3, 7, 11, 15]
    assert [image.step for image in found.Images("training/filters")] == [15]


def test_the_graph_is_that_of_the_network(found):
    assert {node.op for node in found.Graph().node} >= {"aten::_convolution", "aten::linear"}


@pytest.fixture(scope="module")
def classifier(run):
    """The best weights of the run."""
    return ShallowCNNClassifier.load_from_checkpoint(run / "checkpoints" / "best.ckpt").eval()


@pytest.fixture(scope="module")
def images():
    pixels = np.frombuffer(idx_files(seed=1)[TEST_IMAGES], np.uint8, offset=16).reshape(-1, 1, 28, 28)
    return torch.from_numpy(pixels.copy())


def test_each_class_has_a_precision_recall_curve(run, found, classifier, images):
    tags = {tag for tag, m in found.summary_metadata.items() if m.plugin_data.plugin_name == "pr_curves"}
    assert tags == {f"test_pr_curve/{name}" for name in FASHION_MNIST.classes}
    true = np.array([row["true"] for row in predictions(run)])
    with torch.no_grad():
        probabilities = classifier(images).softmax(dim=1).numpy()
    for index, name in enumerate(FASHION_MNIST.classes):
        (event,) = found.Tensors(f"test_pr_curve/{name}")
        hits, false_alarms = make_ndarray(event.tensor_proto)[:2]  # at 127 thresholds from 0 to 1
        assert event.step == best(run)["step"]
        for threshold in (0, 10, 20):
            taken = true[probabilities[:, index] >= threshold / 126]
            assert (hits[threshold], false_alarms[threshold]) == ((taken == name).sum(), (taken != name).sum())


def test_the_embedding_has_the_inputs_of_the_last_layer(run, classifier, images):
    folder = run / f"{best(run)['step']:05d}" / "test"
    with torch.no_grad():
        features = classifier.network.layers[:-1](classifier.preprocess(images))

    np.testing.assert_allclose(np.loadtxt(folder / "tensors.tsv", delimiter="\t"), features.numpy(), atol=1e-5)
    assert (folder / "metadata.tsv").read_text().splitlines() == [row["true"] for row in predictions(run)]
    assert (folder / "sprite.png").is_file()
    assert f'tensor_path: "{folder.parent.name}/test/tensors.tsv"' in (run / "projector_config.pbtxt").read_text()


def test_the_calibration_error_is_that_of_the_predictions(run, found):
    bins: dict[int, list[float]] = {}
    for row in predictions(run):
        confidence = float(row["confidence"])
        bins.setdefault(min(int(confidence * 15), 14), []).append((row["true"] == row["predicted"]) - confidence)
    error = sum(abs(sum(gaps)) for gaps in bins.values()) / 100

    assert curve(found, "test/calibration_error") == [(best(run)["step"], pytest.approx(error, abs=1e-5))]


def test_histograms_are_optional(found, fit):
    assert found.Tags()["histograms"] == []

    asked = fit(MLP, *EXACT, "--dashboard.histograms", "true")

    weights = torch.load(asked / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    drawn = events(asked)
    assert {tag for tag in drawn.Tags()["histograms"] if tag.startswith("weights/")} == {
        f"weights/{name}" for name in weights if name.startswith("network.")
    }
    (event,) = drawn.Histograms("weights/network.layers.1.weight")
    tensor = weights["network.layers.1.weight"].double()
    assert event.step == 2
    assert event.histogram_value.num == tensor.numel()
    assert event.histogram_value.sum == pytest.approx(tensor.sum().item())
    # A network without convolutions has no feature maps, and the plots of the run are disabled.
    assert set(drawn.Tags()["images"]) == {"training/confusion_matrix", "training/filters"}


def test_a_class_without_validation_images_has_no_accuracy(fit):
    found = events(fit(MLP, *EXACT, "--data.val_size", 4))

    assert np.isnan([curve(found, name)[0][1] for name in PER_CLASS]).sum() == 6


# Hyperparameters


def assert_hparams_tab(run: Path, found: EventAccumulator) -> None:
    """Assert that the HParams tab has the hyperparameters and the metrics of the run."""
    top, measured = best(run), json.loads((run / "test_metrics.json").read_text())
    values, metrics = session(found)
    assert values == hyperparameters(yaml.safe_load((run / "config.yaml").read_text()))
    assert metrics == ["val_best/acc", "val_best/loss", "test/acc", "test/loss"]
    last, tested = logged(run, "val/acc")[-1][0], top["step"]
    assert curve(found, "val_best/acc")[-1] == (last, np.float32(top["acc"]))
    assert curve(found, "val_best/loss")[-1] == (last, np.float32(top["loss"]))
    assert curve(found, "test/acc")[-1] == (tested, np.float32(measured["test/acc"]))
    assert curve(found, "test/loss")[-1] == (tested, np.float32(measured["test/loss"]))


def test_the_hparams_tab_of_a_run_that_is_tested_later(run, found):
    assert_hparams_tab(run, found)
    values, _ = session(found)
    assert values["model"] == "ShallowCNNClassifier"
    assert values["model.optimizer"] == "SGD"
    assert values["model.optimizer.lr"] == 0.02
    assert values["trainer.max_epochs"] == 4
    assert values["data.batch_size"] == 40


def test_the_best_accuracy_is_the_highest_so_far(run, found):
    steps, accuracies = zip(*logged(run, "val/acc"), strict=True)

    assert curve(found, "val_best/acc") == list(zip(steps, np.maximum.accumulate(accuracies), strict=True))


class Logs(ImageClassifier):
    """Logs given validation metrics, one pair of accuracy and loss per epoch."""

    def __init__(self, *pairs):
        super().__init__(nn.Sequential(nn.Flatten(), nn.Linear(784, 3)), num_classes=3)
        self.pairs = iter(pairs)

    def on_validation_epoch_end(self):
        for name, value in zip(("acc", "loss"), next(self.pairs), strict=True):
            self.log(f"val/{name}", value)


@pytest.mark.parametrize(
    ("monitor", "mode", "accuracies", "losses"),
    [
        ("val/acc", "max", [0.5, 0.75, 0.75, 0.75], [2.0, 3.0, 3.0, 3.0]),
        ("val/loss", "min", [0.5, 0.5, 0.75, 0.25], [2.0, 2.0, 1.0, 0.5]),
    ],
)
def test_the_best_metrics_are_those_of_the_best_checkpoint(trainer, tmp_path, monitor, mode, accuracies, losses):
    model = Logs((0.5, 2.0), (0.75, 3.0), (0.75, 1.0), (0.25, 0.5))
    callbacks = [Dashboard(), ModelCheckpoint(tmp_path / "kept", monitor=monitor, mode=mode)]
    options = {"enable_checkpointing": True, "logger": TensorBoard(tmp_path), "num_sanity_val_steps": 0}
    trainer(max_epochs=4, callbacks=callbacks, **options).fit(model, three(), three())

    assert [value for _, value in curve(tmp_path, "val_best/acc")] == accuracies
    assert [value for _, value in curve(tmp_path, "val_best/loss")] == losses


def test_without_a_monitored_metric_there_is_no_best(trainer, tmp_path):
    trainer(callbacks=[Dashboard()], logger=TensorBoard(tmp_path), num_sanity_val_steps=0).fit(
        Logs((0.5, 2.0)), three(), three()
    )

    assert not any(tag.startswith("val_best/") for tag in events(tmp_path).Tags()["scalars"])


def test_the_best_metrics_of_a_resumed_run_may_be_from_before(fit, cli):
    run = fit(MLP, *EXACT, "--model.optimizer.lr", 0.1, "--trainer.max_epochs", 5)
    first = best(run)
    last = run / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    content["optimizer_states"][0]["param_groups"][0]["lr"] = 10.0  # spoils the weights
    torch.save(content, last)

    assert cli("fit", "--ckpt_path", "last", "--trainer.max_epochs", 7).status == 0
    for checkpoint in ("best", "last"):
        flags = ("--plots.enabled", "false", "--overwrite", "true")
        assert cli("test", "--ckpt_path", checkpoint, *flags).status == 0
        time.sleep(1)  # TensorBoard sorts event files by seconds, and then by a number without zeros in front

    found = events(run)
    assert best(run) == first
    assert logged(run, "val/acc")[-1][1] < first["acc"] - 0.2
    assert curve(found, "val/acc") == logged(run, "val/acc")
    assert [step for step, _ in curve(found, "val_best/acc")] == [2, 5, 8, 11, 14, 17, 20]
    assert {value for _, value in curve(found, "val_best/acc")[4:]} == {np.float32(first["acc"])}
    assert {value for _, value in curve(found, "val_best/loss")[4:]} == {np.float32(first["loss"])}
    assert {step for step, _ in curve(found, "test/acc")} == {first["step"], 20}  # each checkpoint has its own step
    assert {path.parent.parent.name for path in run.glob("*/test/tensors.tsv")} == {f"{first['step']:05d}", "00020"}


# Testing again


def test_a_second_test_writes_the_same(copy, cli):
    (embedding,) = copy.glob("*/test/tensors.tsv")
    written = embedding.read_bytes()

    outcome = cli("test", "--ckpt_path", copy, "--plots.enabled", "false")

    assert outcome.status == 0
    assert "mbedding" not in outcome.out  # torch's own warning goes there
    assert embedding.read_bytes() == written
    assert set(copy.glob("*/test/tensors.tsv")) == {embedding}
    first, second = curve(copy, "test/acc")
    assert first == second


def test_a_test_of_a_copied_checkpoint_writes_no_events(copy, cli, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    checkpoint = Path(shutil.copy(copy / "checkpoints" / "best.ckpt", tmp_path / "elsewhere" / "some.ckpt"))
    before = files(copy)

    assert cli("test", "--ckpt_path", checkpoint, "--plots.enabled", "false").status == 0

    assert {path.name for path in files(checkpoint.parent)} == {
        "some.ckpt",
        "test_metrics.json",
        "test_predictions.csv",
    }
    assert files(copy) == before


def test_validate_writes_nothing(copy, cli):
    before = {path: path.read_bytes() for path in files(copy)}

    assert cli("validate", "--ckpt_path", copy).status == 0

    assert {path: path.read_bytes() for path in files(copy)} == before


# Disabled


def test_without_the_dashboard_only_metrics_and_hyperparameters_are_written(fit, cli):
    run = fit(MLP, *EXACT, "--dashboard.enabled", "false", "--test", "true")

    found = events(run)
    shown = {name.replace("lr-", "train/lr-") for name in set(metrics(run)[0]) - {"epoch", "step"}}
    assert set(found.Tags()["scalars"]) == shown | {"val_best/acc", "val_best/loss", "test/acc", "test/loss"}
    assert not any(found.Tags()[kind] for kind in BESIDES_SCALARS)
    assert {tag.partition("/")[0] for tag in found.summary_metadata} >= {"_hparams_"}
    assert_hparams_tab(run, found)
    assert not (run / "projector_config.pbtxt").exists()


def test_without_a_logger_there_are_no_events(fit):
    run = fit(MLP, *EXACT, "--trainer.logger", "false", "--test", "true")

    assert not list(run.rglob("*tfevents*"))
    assert not (run / "projector_config.pbtxt").exists()
    assert (run / "test_metrics.json").is_file()


def test_a_fast_dev_run_writes_nothing(cli, configs, tiny_data):
    outcome = cli("fit", "--config", configs / MLP, "--trainer.fast_dev_run", "true", "--data.val_size", 50)

    assert outcome.status == 0, outcome.err
    assert list(Path().iterdir()) == []


# Results do not depend on the dashboard


def test_training_is_bit_identical_with_and_without_a_dashboard(run, fit):
    without = fit(SHALLOW_CNN, *TRAINED, "--dashboard.enabled", "false")

    assert (run / "metrics.csv").read_bytes() == (without / "metrics.csv").read_bytes()
    for name in ("last", "best"):
        first, second = (torch.load(r / "checkpoints" / f"{name}.ckpt", weights_only=True) for r in (without, run))
        assert first["state_dict"].keys() == second["state_dict"].keys()
        assert all(torch.equal(tensor, second["state_dict"][key]) for key, tensor in first["state_dict"].items())


@pytest.mark.filterwarnings("ignore:Found 1 module\\(s\\) in eval mode")
def test_random_state_modes_and_statistics_are_kept(trainer, tiny_data, tmp_path):
    states, modes, models = [], [], []
    for enabled in (True, False):
        random.seed(7)
        np.random.seed(7)
        torch.manual_seed(7)
        network = nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(2 * 26 * 26, 10)
        )
        network[2].eval()  # alone, as if it were frozen
        model = ImageClassifier(network)
        dashboard = Dashboard(enabled, histograms=True)
        run = trainer(max_epochs=2, callbacks=[dashboard], logger=TensorBoard(tmp_path / str(enabled)))
        run.fit(model, datamodule=MNISTDataModule(val_size=50))
        states.append((torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()))
        modes.append([module.training for module in model.modules()])
        models.append(model.state_dict())

    assert "training/feature_maps" in events(tmp_path / "True").Tags()["images"]
    assert states[0] == states[1]
    assert modes[0] == modes[1]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_only_rank_zero_writes(trainer, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "is_global_zero", False)
    run = trainer(callbacks=[Dashboard(histograms=True)], logger=TensorBoard(tmp_path))

    run.fit(MLPClassifier(), datamodule=MNISTDataModule(val_size=50))

    assert not any(events(tmp_path).Tags()[kind] for kind in BESIDES_SCALARS)


# In Python: without data module, without checkpoint, with other networks


def three():
    """Batches of six images of three classes."""
    images = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1).expand(6, 1, 28, 28)
    return DataLoader(TensorDataset(40 * images, torch.arange(6) % 3), 4)


def test_without_a_data_module_classes_are_numbered(trainer, tmp_path):
    model = ImageClassifier(nn.Sequential(nn.Flatten(), nn.Linear(784, 3)), num_classes=3)
    run = trainer(callbacks=[Dashboard()], logger=TensorBoard(tmp_path))

    run.fit(model, three(), three())
    run.save_checkpoint(tmp_path / "some.ckpt")
    tested = trainer(callbacks=[Dashboard()])
    tested.test(model, three(), ckpt_path=tmp_path / "some.ckpt", weights_only=True, verbose=False)

    found = events(tmp_path)
    assert {tag for tag in found.Tags()["scalars"] if tag.startswith("val_acc_per_class/")} == {
        f"val_acc_per_class/{n}" for n in "012"
    }
    assert found.Tags()["images"] == ["training/confusion_matrix"]
    assert {f"test_pr_curve/{n}" for n in "012"} <= set(found.Tags()["tensors"])
    assert session(found)[0]["model"] == "ImageClassifier"
    assert curve(found, "test/acc") == [(1, tested.callback_metrics["test/acc"].item())]
    assert not (tmp_path / "projector_config.pbtxt").exists()  # the images are unknown


def test_evaluation_without_a_checkpoint_adds_nothing(trainer, tiny_data, tmp_path):
    run = trainer(callbacks=[Dashboard()], logger=TensorBoard(tmp_path))

    for evaluate in (run.validate, run.test):
        evaluate(MLPClassifier(), datamodule=MNISTDataModule(val_size=50), verbose=False)

    found = events(tmp_path)
    assert set(found.Tags()["scalars"]) == {"val/loss", "val/acc", "test/loss", "test/acc"}  # Lightning's
    assert not any(found.Tags()[kind] for kind in BESIDES_SCALARS)
    assert not (tmp_path / "projector_config.pbtxt").exists()


def test_a_network_without_linear_layers_is_shown(trainer, tiny_data, tmp_path):
    model = ImageClassifier(nn.Sequential(nn.Conv2d(1, 10, 28), nn.Flatten()), lambda p: SGD(p, lr=0.1))
    run = trainer(callbacks=[Dashboard()], logger=TensorBoard(tmp_path))

    datamodule = FashionMNISTDataModule(val_size=50)
    run.fit(model, datamodule=datamodule)
    run.save_checkpoint(path := tmp_path / "some.ckpt")
    trainer(callbacks=[Dashboard()]).test(
        model, datamodule=datamodule, ckpt_path=path, weights_only=True, verbose=False
    )

    found = events(tmp_path)
    assert {"training/filters", "training/feature_maps"} <= set(found.Tags()["images"])
    assert len(curve(found, "test/acc")) == 1
    assert not (tmp_path / "projector_config.pbtxt").exists()


def test_without_validation_there_is_no_best(fit):
    run = fit(MLP, *EXACT, "--trainer.limit_val_batches", 0, "--trainer.enable_checkpointing", "false")

    found = events(run)
    assert not {"val_best/acc", "val/acc"} & set(found.Tags()["scalars"])
    assert found.Tags()["graph"]
    assert len(session(found)[1]) == 4


def test_a_run_in_mixed_precision_that_is_tested_at_once_is_shown(fit):
    mixed = ("--trainer.precision", "bf16-mixed", "--trainer.max_epochs", 2)
    run = fit(CNN, *mixed, "--dashboard.enabled", "true", "--test", "true")

    assert_hparams_tab(run, found := events(run))
    assert {"training/filters", "training/feature_maps"} <= set(found.Tags()["images"])
    assert len(list(run.glob("*/test/tensors.tsv"))) == 1


def test_a_checkpoint_keeps_the_best_metrics_and_the_number_of_validations():
    dashboard = Dashboard()
    known = {"best": {"val_best/acc": 0.5, "val_best/loss": 1.5}, "validations": 7}
    dashboard.load_state_dict(known)

    assert dashboard.state_dict() == known


def test_long_runs_draw_fewer_confusion_matrices(trainer, tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_cnn.plots.figures.confusion_matrix", lambda *_: Figure(figsize=(1, 1)))
    model = ImageClassifier(nn.Sequential(nn.Flatten(), nn.Linear(784, 3)), num_classes=3)
    logger = TensorBoard(tmp_path)
    trainer(max_epochs=41, callbacks=[Dashboard()], logger=logger).fit(model, three(), three())

    drawn = [(image.step - 1) // 2 for image in events(tmp_path).Images("training/confusion_matrix")]  # two steps each
    assert drawn == [*range(16), 16, 18, 20, 22, 24, 26, 28, 30, 32, 36, 40]
