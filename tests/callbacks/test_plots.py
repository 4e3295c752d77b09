import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from idx import write_idx_dataset
from lightning.pytorch import Trainer, seed_everything
from matplotlib.figure import Figure
from matplotlib.image import imread

from lightning_cnn.callbacks import Plots
from lightning_cnn.callbacks.metrics_csv import MetricsCSV
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.data import ImageDataModule
from lightning_cnn.data.augment import CropAndRotate
from lightning_cnn.data.datamodules import IDXDataModule
from lightning_cnn.data.facts import DatasetFacts
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.plots import figures
from lightning_cnn.startup import filter_warnings

pytestmark = pytest.mark.usefixtures("quiet")
PNG = b"\x89PNG\r\n\x1a\n"
OF_TEST = {"predictions.png", "mistakes.png", "confusion_matrix.png", "calibration.png"}


@pytest.fixture
def quiet() -> None:
    filter_warnings()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def facts(data_dir: Path) -> DatasetFacts:
    return write_idx_dataset(data_dir, MNIST, n_train=80, n_test=25)


@pytest.fixture
def datamodule(data_dir: Path, facts: DatasetFacts) -> ImageDataModule:
    return data(data_dir, facts)


def data(data_dir: Path, facts: DatasetFacts) -> ImageDataModule:
    class Tiny(IDXDataModule):
        pass

    Tiny.facts = facts
    return Tiny(data_dir, batch_size=16, eval_batch_size=10, val_size=20, augment=CropAndRotate(crop_probability=0.5))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """The arguments of each plot function, which returns an empty figure to save time."""
    return replace_figures(monkeypatch)


def replace_figures(patch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    names = ("samples", "history", "predictions", "mistakes", "confusion_matrix", "calibration")
    calls: dict[str, list[Any]] = {name: [] for name in names}
    for name, drawn in calls.items():

        def draw(*args: Any, drawn: list[Any] = drawn, **kwargs: Any) -> Figure:
            drawn.append(args or kwargs)
            return Figure(figsize=(1, 1))

        patch.setattr(figures, name, draw)
    return calls


def trainer(
    folder: Path, *callbacks: Any, max_epochs: int = 2, first_step: int | None = None, **options: Any
) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        default_root_dir=folder,
        callbacks=list(callbacks),
        logger=MetricsCSV(folder, first_step),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def classifier(num_classes: int = 10) -> ImageClassifier:
    seed_everything(0, verbose=False)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, num_classes))
    return ImageClassifier(network, mean=0.5, std=0.25, num_classes=num_classes)


def drawn(folder: Path) -> set[str]:
    return {path.name for path in (folder / "plots").glob("*")}


def test_fit_draws_samples_and_history_without_changing_the_training(
    tmp_path: Path, datamodule: ImageDataModule
) -> None:
    weights, metrics = [], []
    for enabled in (True, False):
        (folder := tmp_path / str(enabled)).mkdir()
        model = classifier()
        trainer(folder, Plots(enabled=enabled)).fit(model, datamodule)
        weights.append(model.state_dict())
        metrics.append((folder / "metrics.csv").read_bytes())
        assert drawn(folder) == ({"samples.png", "history.png"} if enabled else set())
    assert all((tmp_path / "True" / "plots" / name).read_bytes().startswith(PNG) for name in drawn(tmp_path / "True"))
    assert imread(tmp_path / "True" / "plots" / "samples.png").std() > 0.1
    assert metrics[0] == metrics[1]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_samples_are_the_first_inputs_of_the_network_and_history_the_logged_metrics(
    tmp_path: Path, datamodule: ImageDataModule, shown: dict[str, list[Any]]
) -> None:
    seen: list[torch.Tensor] = []
    model = classifier()
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    run = trainer(tmp_path, Plots(), max_epochs=4, num_sanity_val_steps=0, check_val_every_n_epoch=2)
    run.fit(model, datamodule)
    ((images, labels, names),) = shown["samples"]  # drawn once, however many epochs there were
    first = next(inputs for inputs in seen if len(inputs) > 2)  # those before it check the network
    np.testing.assert_array_equal(images, first[:12, 0].numpy())
    assert len(labels) == 12
    assert names == list(MNIST.classes)
    (curves,) = shown["history"]
    assert curves.pop("epochs").tolist() == [1, 2, 3, 4]
    assert set(curves) == {"train_loss", "train_acc", "val_loss", "val_acc"}
    for name, values in curves.items():
        assert np.isnan(values).tolist() == ([True, False] * 2 if name.startswith("val") else [False] * 4)
        assert values[-1] == pytest.approx(run.callback_metrics[name.replace("_", "/")].item())


def test_samples_are_augmented(tmp_path: Path, datamodule: ImageDataModule, shown: dict[str, list[Any]]) -> None:
    calls = []
    for augment in (None, CropAndRotate(crop_probability=0.5)):
        datamodule.augment = augment
        trainer(tmp_path, Plots(), max_epochs=1).fit(classifier(), datamodule)
        calls.append(shown["samples"][-1])
    assert calls[0][1].tolist() == calls[1][1].tolist()
    assert not np.array_equal(calls[0][0], calls[1][0])


def test_a_small_first_batch_is_drawn_whole_and_once(
    tmp_path: Path, datamodule: ImageDataModule, shown: dict[str, list[Any]]
) -> None:
    datamodule.batch_size = 5
    trainer(tmp_path, Plots(), accumulate_grad_batches=4).fit(classifier(), datamodule)
    ((images, _, _),) = shown["samples"]
    assert images.shape == (5, 28, 28)


def test_a_resumed_run_keeps_its_samples_and_shows_all_epochs(
    tmp_path: Path, datamodule: ImageDataModule, shown: dict[str, list[Any]]
) -> None:
    first = trainer(tmp_path, Plots(), max_epochs=2)
    first.fit(classifier(), datamodule)
    first.save_checkpoint(tmp_path / "run.ckpt")
    resumed = trainer(tmp_path, Plots(), max_epochs=3, first_step=first.global_step)
    resumed.fit(classifier(), datamodule, ckpt_path=tmp_path / "run.ckpt", weights_only=True)
    assert len(shown["samples"]) == 1
    before, after = shown["history"]
    for name in before:
        assert after[name].shape == (3,)
        np.testing.assert_array_equal(after[name][:2], before[name])


@pytest.mark.usefixtures("shown")
def test_nothing_is_drawn_in_a_fast_dev_run_or_when_disabled(tmp_path: Path, datamodule: ImageDataModule) -> None:
    model = classifier()
    for run in (trainer(tmp_path, Plots(), fast_dev_run=True), trainer(tmp_path, Plots(enabled=False))):
        run.fit(model, datamodule)
        run.test(model, datamodule, verbose=False)
    assert not (tmp_path / "plots").exists()


@pytest.fixture(scope="module")
def tested(
    tmp_path_factory: pytest.TempPathFactory, data_dir: Path, facts: DatasetFacts
) -> tuple[dict[str, list[Any]], ImageDataModule, torch.Tensor]:
    """The figures of a test with the default settings, its data, and the probabilities `(25, 10)`."""
    filter_warnings()
    model, datamodule = classifier(), data(data_dir, facts)
    with pytest.MonkeyPatch.context() as patch:
        calls = replace_figures(patch)
        trainer(tmp_path_factory.mktemp("run"), Plots()).test(model, datamodule, verbose=False)
    with torch.no_grad():
        return calls, datamodule, model(datamodule.test_set.images).softmax(dim=1)


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (13, 13), (40, 25)])
def test_predictions_show_the_first_n_test_images(
    n: int, expected: int, tmp_path: Path, datamodule: ImageDataModule, shown: dict[str, list[Any]]
) -> None:
    trainer(tmp_path, Plots(test_images=n)).test(classifier(), datamodule, verbose=False)
    assert drawn(tmp_path) == OF_TEST
    ((images, _),) = shown["predictions"]
    np.testing.assert_array_equal(images, datamodule.test_set.images[:expected, 0].numpy())


def test_predictions_are_those_of_the_network_on_raw_images(
    tested: tuple[dict[str, list[Any]], ImageDataModule, torch.Tensor],
) -> None:
    shown, datamodule, probabilities = tested
    ((images, predictions),) = shown["predictions"]
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, datamodule.test_set.images[:4, 0].numpy())
    assert predictions.targets.tolist() == datamodule.test_set.targets.tolist()
    assert predictions.predicted.tolist() == probabilities.argmax(dim=1).tolist()
    assert predictions.class_names == list(MNIST.classes)


def test_figures_of_a_test_count_all_its_images(
    tested: tuple[dict[str, list[Any]], ImageDataModule, torch.Tensor],
) -> None:
    shown, datamodule, probabilities = tested
    targets, predicted = datamodule.test_set.targets.numpy(), probabilities.argmax(dim=1).numpy()
    ((counts, names, _),) = shown["confusion_matrix"]
    assert names == list(MNIST.classes)
    for true in range(10):
        assert counts[true].tolist() == [((targets == true) & (predicted == guess)).sum() for guess in range(10)]
    ((result,),) = shown["calibration"]
    assert result.images.sum() == 25
    assert np.nansum(result.images * result.accuracy) == pytest.approx((targets == predicted).sum())
    assert np.nansum(result.images * result.confidence) == pytest.approx(probabilities.amax(dim=1).sum().item())


def test_mistakes_are_the_worst_ones(tested: tuple[dict[str, list[Any]], ImageDataModule, torch.Tensor]) -> None:
    shown, datamodule, probabilities = tested
    images, targets = datamodule.test_set.images, datamodule.test_set.targets
    wrong = [i for i in range(25) if probabilities[i].argmax() != targets[i]]
    assert len(wrong) > 16
    worst = sorted(wrong, key=lambda i: probabilities[i, targets[i]].item())[:16]
    ((pixels, predictions),) = shown["mistakes"]
    np.testing.assert_array_equal(pixels, images[worst, 0].numpy())
    assert predictions.worst_mistakes(16).tolist() == worst
    assert predictions.confidence[worst].tolist() == pytest.approx(probabilities[worst].amax(dim=1).tolist())


@pytest.mark.usefixtures("shown")
def test_without_mistakes_an_earlier_figure_of_them_is_removed(
    tmp_path: Path, datamodule: ImageDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer(tmp_path, Plots()).test(classifier(), datamodule, verbose=False)
    assert drawn(tmp_path) == OF_TEST
    datamodule.setup("test")
    datamodule.test_set.images[:, 0, 0, 0] = datamodule.test_set.targets.to(torch.uint8)
    monkeypatch.setattr(datamodule, "setup", lambda stage: None)

    class Perfect(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 5 * torch.eye(10)[(images[:, 0, 0, 0] * 255).round().long()]

    trainer(tmp_path, Plots()).test(ImageClassifier(Perfect()), datamodule, verbose=False)
    assert drawn(tmp_path) == OF_TEST - {"mistakes.png"}


@pytest.mark.usefixtures("shown")
def test_figures_are_written_beside_the_tested_checkpoint(tmp_path: Path, datamodule: ImageDataModule) -> None:
    run = trainer(tmp_path / "elsewhere", Plots(), max_epochs=1)
    (tmp_path / "elsewhere").mkdir()
    model = classifier()
    run.fit(model, datamodule)
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    run.save_checkpoint(path)
    run.test(model, datamodule, ckpt_path=path, verbose=False, weights_only=True)
    assert drawn(tmp_path / "run") == OF_TEST
    assert not OF_TEST & drawn(tmp_path / "elsewhere")


def test_without_a_data_module_no_images_are_drawn(tmp_path: Path, shown: dict[str, list[Any]]) -> None:
    batch = (torch.zeros(3, 1, 28, 28, dtype=torch.uint8), torch.tensor([0, 1, 2]))
    trainer(tmp_path, Plots()).test(classifier(3), torch.utils.data.DataLoader([batch], batch_size=None), verbose=False)
    assert drawn(tmp_path) == {"confusion_matrix.png", "calibration.png"}
    ((counts, names, _),) = shown["confusion_matrix"]
    assert counts.sum() == 3
    assert names == ["0", "1", "2"]


def test_a_test_in_bfloat16_is_drawn(tmp_path: Path, datamodule: ImageDataModule) -> None:
    trainer(tmp_path, Plots(), precision="bf16-mixed").test(classifier(), datamodule, verbose=False)
    assert drawn(tmp_path) == OF_TEST
    assert all((tmp_path / "plots" / name).read_bytes().startswith(PNG) for name in OF_TEST)


@pytest.mark.usefixtures("shown")
def test_only_rank_zero_draws(tmp_path: Path, datamodule: ImageDataModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "is_global_zero", False)
    run = trainer(tmp_path, Plots(), max_epochs=1)
    run.fit(model := classifier(), datamodule)
    run.test(model, datamodule, verbose=False)
    assert not (tmp_path / "plots").exists()


def test_test_images_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match="test_images must be at least 1, got 0"):
        Plots(test_images=0)


def test_pyplot_and_its_global_state_are_not_used() -> None:
    code = "import sys, lightning_cnn.plots.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
