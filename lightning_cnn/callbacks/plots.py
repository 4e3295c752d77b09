"""The pictures that a run leaves in its folder."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from numpy.typing import NDArray

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.callbacks.metrics_csv import MetricsCSV
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.data import ImageDataModule
from lightning_cnn.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Where a run keeps its pictures, below its folder.
FOLDER = "plots"
SAMPLES = 12
_CURVES = ("train_loss", "train_acc", "val_loss", "val_acc")


class Plots(Callback):
    """Draws what can be seen of a run at a glance; has no part in its results.

    Into `plots/` in the run folder go `samples.png`, the first training images as the network sees them, before the
    first step; `history.png`, loss and accuracy over all epochs in `metrics.csv`, when training ends; and, beside the
    checkpoint that was tested, `predictions.png`, the first test images with true and predicted class names.

    Args:
        enabled: Whether to draw at all.
        test_images: Test images to show, at least 1.

    Raises:
        ValueError: If `test_images` is below 1.
    """

    def __init__(self, enabled: bool = True, test_images: int = 4) -> None:
        if test_images < 1:
            raise ValueError(f"test_images must be at least 1, got {test_images}")
        self.enabled = enabled
        self.test_images = test_images

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the first images of the first epoch, augmented; the random numbers of the training stay as they are."""
        datamodule = getattr(trainer, "datamodule", None)
        # A run that goes on has shown its first batch long ago.
        if not self._draws(trainer) or trainer.ckpt_path is not None or not isinstance(datamodule, ImageDataModule):
            return
        from lightning_cnn import plots  # matplotlib is not for those who want no pictures

        assert isinstance(pl_module, ImageClassifier)
        images, targets = (tensor[:SAMPLES] for tensor in next(iter(datamodule.train_dataloader())))
        if datamodule.augment is not None:
            with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
                images = datamodule.augment(images)
        figure = plots.samples(_pixels(pl_module.preprocess(images)), targets.cpu().numpy(), _class_names(pl_module))
        _save(figure, Path(trainer.default_root_dir), "samples.png")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw all epochs that `metrics.csv` knows of, those before an interruption included."""
        if not self._draws(trainer):
            return
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV):
                logger.finalize("success")  # Lightning does so only after all callbacks
                self._draw_history(logger.path)

    def _draw_history(self, metrics: Path) -> None:
        from lightning_cnn import plots

        curves = read_history(metrics) if metrics.is_file() else {}
        if curves:
            _save(plots.history(**curves), metrics.parent, "history.png")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the images of an earlier test."""
        self._images: list[NDArray[np.generic]] = []
        self._targets: list[int] = []
        self._predicted: list[int] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first images with their true and predicted classes."""
        missing = self.test_images - len(self._images)
        if missing == 0 or not self._draws(trainer):
            return
        assert isinstance(outputs, torch.Tensor)
        self._images.extend(_pixels(batch[0][:missing]))
        self._targets.extend(batch[1][:missing].tolist())
        self._predicted.extend(outputs[:missing].argmax(dim=1).tolist())

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw them beside the checkpoint, or in the trainer's folder if the weights came from none."""
        if not self._images:
            return
        from lightning_cnn import plots

        assert isinstance(pl_module, ImageClassifier)
        figure = plots.predictions(np.stack(self._images), self._targets, self._predicted, _class_names(pl_module))
        checkpoint = trainer.ckpt_path
        folder = Path(trainer.default_root_dir) if checkpoint is None else checkpoints.run_folder(Path(checkpoint))
        _save(figure, folder, "predictions.png")

    def _draws(self, trainer: Trainer) -> bool:
        return self.enabled and trainer.is_global_zero and not trainer.fast_dev_run  # type: ignore[attr-defined]


def read_history(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return loss and accuracy of every epoch in a `metrics.csv`.

    Returns:
        `train_loss`, `train_acc`, `val_loss` and `val_acc`, each `(E,)` with NaN where nothing was measured; empty if
        nothing was measured at all.
    """
    found: dict[tuple[str, int], float] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for curve in _CURVES:
                if value := row.get(curve.replace("_", "/")):
                    found[curve, int(float(row["epoch"]))] = float(value)
    if not found:
        return {}
    n = 1 + max(epoch for _, epoch in found)
    return {curve: np.array([found.get((curve, epoch), np.nan) for epoch in range(n)]) for curve in _CURVES}


def _pixels(images: torch.Tensor) -> NDArray[np.generic]:
    """The only channel of images `(B, 1, H, W)`, as numpy `(B, H, W)`; bfloat16, which numpy lacks, as float32."""
    images = images.squeeze(1).cpu()
    pixels: NDArray[np.generic] = (images.float() if images.is_floating_point() else images).numpy()
    return pixels


def _class_names(classifier: ImageClassifier) -> list[str]:
    """The names that the data module knows, otherwise the numbers of the classes."""
    return checkpoints.class_names(classifier) or [str(n) for n in range(classifier.num_classes)]


def _save(figure: "Figure", folder: Path, name: str) -> None:
    """Write the figure, whole or not at all."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    with replacing(folder / FOLDER / name) as path:
        figure.savefig(path, format="png", dpi=120)
