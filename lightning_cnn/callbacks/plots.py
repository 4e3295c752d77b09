"""The pictures that a run leaves in its folder."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray

from lightning_cnn.callbacks.metrics_csv import MetricsCSV
from lightning_cnn.callbacks.predictions import Predictions, PredictionsCallback, Stage
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.data import ImageDataModule
from lightning_cnn.files import atomic_write
from lightning_cnn.plots.evaluation import calibration, confusion
from lightning_cnn.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Where a run keeps its pictures, below its folder.
FOLDER = "plots"
SAMPLES = 12
MISTAKES = 16


class Plots(PredictionsCallback):
    """Draws what can be seen of a run at a glance; has no part in its results.

    Into `plots/` in the run folder go `samples.png`, the first training images as the network sees them, before the
    first step; `history.png`, loss and accuracy over all epochs in `metrics.csv`, when training ends; and, beside the
    checkpoint that was tested, `predictions.png`, the first test images with true and predicted class names,
    `mistakes.png`, those wrong ones with the highest loss, `confusion_matrix.png` and `calibration.png`.

    Args:
        enabled: Whether to draw at all.
        test_images: Test images in `predictions.png`, at least 1.

    Raises:
        ValueError: If `test_images` is below 1.
    """

    def __init__(self, enabled: bool = True, test_images: int = 4) -> None:
        if test_images < 1:
            raise ValueError(f"test_images must be at least 1, got {test_images}")
        self.enabled = enabled
        self.test_images = test_images

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the first images of the first epoch, augmented."""
        datamodule = getattr(trainer, "datamodule", None)
        # A run that goes on has shown its first batch long ago.
        if not self._draws(trainer) or trainer.ckpt_path is not None or not isinstance(datamodule, ImageDataModule):
            return
        from lightning_cnn.plots import images as plots  # matplotlib is not for those who want no pictures

        assert isinstance(pl_module, ImageClassifier)
        images, targets = (tensor[:SAMPLES] for tensor in next(iter(datamodule.train_dataloader())))
        figure = plots.samples(_pixels(pl_module.preprocess(images)), targets.cpu().numpy(), pl_module.class_names)
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
        from lightning_cnn.plots import images as plots

        curves = Run(metrics.parent).read_history()
        if curves:
            _save(plots.history(**curves), metrics.parent, "history.png")

    def on_predictions(
        self, trainer: Trainer, pl_module: LightningModule, stage: Stage, predictions: Predictions
    ) -> None:
        """Draw the test beside the checkpoint, or in the trainer's folder if the weights came from none."""
        if not self._draws(trainer):
            return
        assert isinstance(pl_module, ImageClassifier)
        names = pl_module.class_names
        checkpoint = trainer.ckpt_path
        folder = Path(trainer.default_root_dir) if checkpoint is None else Run.of_checkpoint(Path(checkpoint)).folder
        _draw_figures(predictions, names, folder)
        datamodule = getattr(trainer, "datamodule", None)
        if isinstance(datamodule, ImageDataModule):
            _draw_images(predictions, datamodule.test_set.images, names, folder, self.test_images)

    def _draws(self, trainer: Trainer) -> bool:
        return self.enabled and trainer.is_global_zero and not trainer.fast_dev_run  # type: ignore[attr-defined]


def _draw_figures(predictions: Predictions, names: list[str], folder: Path) -> None:
    """What the whole test comes to."""
    from lightning_cnn.plots import images as plots

    targets, predicted = predictions.targets.numpy(), predictions.predicted.numpy()
    counts = confusion(targets, predicted, len(names))
    _save(plots.confusion_matrix(counts, names, "Test images"), folder, "confusion_matrix.png")
    result = calibration(targets == predicted, predictions.confidence.numpy())
    _save(plots.calibration(result), folder, "calibration.png")


def _draw_images(predictions: Predictions, images: torch.Tensor, names: list[str], folder: Path, first: int) -> None:
    """The first images, and the worst mistakes."""
    from lightning_cnn.plots import images as plots

    targets, predicted = predictions.targets, predictions.predicted
    first = min(first, len(targets))  # the test may have been shortened
    figure = plots.predictions(_pixels(images[:first]), targets[:first], predicted[:first], names)
    _save(figure, folder, "predictions.png")
    worst = predictions.worst_mistakes(MISTAKES)
    if len(worst):
        pixels = _pixels(images[worst.to(images.device)])
        figure = plots.mistakes(pixels, targets[worst], predicted[worst], predictions.confidence[worst], names)
        _save(figure, folder, "mistakes.png")
    else:
        (folder / FOLDER / "mistakes.png").unlink(missing_ok=True)  # those of an earlier test


def _pixels(images: torch.Tensor) -> NDArray[np.generic]:
    """The only channel of images `(B, 1, H, W)`, as numpy `(B, H, W)`; bfloat16, which numpy lacks, as float32."""
    images = images.squeeze(1).cpu()
    pixels: NDArray[np.generic] = (images.float() if images.is_floating_point() else images).numpy()
    return pixels


def _save(figure: "Figure", folder: Path, name: str) -> None:
    """Write the figure, whole or not at all."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / FOLDER / name) as path:
        figure.savefig(path, format="png", dpi=120)
