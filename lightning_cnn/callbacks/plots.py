"""The figures that a run leaves in its folder."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray

from lightning_cnn.callbacks.metrics_csv import MetricsCSV
from lightning_cnn.callbacks.predictions import PredictionsCallback, Stage
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.data import ImageDataModule
from lightning_cnn.files import atomic_write
from lightning_cnn.plots.evaluation import Predictions
from lightning_cnn.plots.style import channels_last
from lightning_cnn.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLES = 12
MISTAKES = 16


class Plots(PredictionsCallback):
    """Draws figures of a run; does not change its results.

    Into `plots/` in the run folder go `samples.png`, the first training images as the network sees them, before the
    first step; `history.png`, loss and accuracy over all epochs in `metrics.csv`, when training ends; and, beside the
    checkpoint that was tested, `predictions.png`, the first test images with true and predicted class names,
    `mistakes.png`, the wrong predictions with the highest loss, `confusion_matrix.png` and `calibration.png`.

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
        """Draw the first images of the first epoch, augmented; a resumed run has them already."""
        datamodule = getattr(trainer, "datamodule", None)
        if not self._draws(trainer) or trainer.ckpt_path is not None or not isinstance(datamodule, ImageDataModule):
            return
        from lightning_cnn.plots import figures  # here and below: without figures, matplotlib is not imported

        assert isinstance(pl_module, ImageClassifier)
        images, targets = (tensor[:SAMPLES] for tensor in next(iter(datamodule.train_dataloader())))
        pixels = drawable(pl_module.preprocess(images.to(pl_module.device)))
        figure = figures.samples(pixels, targets.cpu().numpy(), pl_module.class_names)
        _save(figure, Run(Path(trainer.default_root_dir)).plot("samples"))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw all epochs in `metrics.csv`, those before an interruption included."""
        if not self._draws(trainer):
            return
        from lightning_cnn.plots import figures

        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV):
                logger.finalize("success")  # Lightning does so only after all callbacks
                run = Run(logger.path.parent)
                if len(history := run.read_history()):
                    _save(figures.history(**history.thinned().curves()), run.plot("history"))

    def on_predictions(
        self, trainer: Trainer, pl_module: LightningModule, stage: Stage, predictions: Predictions
    ) -> None:
        """Draw the test beside the checkpoint, or in the trainer's folder if there is no checkpoint."""
        if not self._draws(trainer):
            return
        from lightning_cnn.plots import figures

        checkpoint = trainer.ckpt_path
        run = Run(Path(trainer.default_root_dir)) if checkpoint is None else Run.of_checkpoint(Path(checkpoint))
        matrix = figures.confusion_matrix(predictions.confusion_matrix, predictions.class_names, "Test images")
        _save(matrix, run.plot("confusion_matrix"))
        _save(figures.calibration(predictions.calibration), run.plot("calibration"))
        datamodule = getattr(trainer, "datamodule", None)
        if isinstance(datamodule, ImageDataModule):
            first, _ = datamodule.test_set[: min(self.test_images, len(predictions))]  # the test may be shortened
            _save(figures.predictions(drawable(first), predictions), run.plot("predictions"))
            run.plot("mistakes").unlink(missing_ok=True)  # of an earlier test
            if len(worst := torch.from_numpy(predictions.worst_mistakes(MISTAKES))):
                images, _ = datamodule.test_set.select(worst.to(first.device))
                _save(figures.mistakes(drawable(images), predictions), run.plot("mistakes"))

    def _draws(self, trainer: Trainer) -> bool:
        return self.enabled and trainer.is_global_zero and not trainer.fast_dev_run  # type: ignore[attr-defined]


def drawable(images: torch.Tensor) -> NDArray[np.generic]:
    """Return images `(B, C, H, W)` as arrays for figures; numpy has no bfloat16."""
    images = images.cpu()
    return channels_last((images.float() if images.is_floating_point() else images).numpy())


def _save(figure: "Figure", path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
