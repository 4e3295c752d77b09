"""Base of the callbacks that need all predictions of a validation or a test at once."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor
from torch.nn import functional

from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.data import ImageDataModule
from lightning_cnn.plots.evaluation import Predictions

Stage = Literal["val", "test"]


class PredictionsCallback(Callback):
    """Collects targets and logits of every batch and passes them on as `Predictions`; override `on_predictions`."""

    #: When to collect.
    stages: ClassVar[tuple[Stage, ...]] = ("test",)

    def on_predictions(
        self, trainer: Trainer, pl_module: LightningModule, stage: Stage, predictions: Predictions
    ) -> None:
        """Use the predictions; called on rank 0 only, when the metrics of the stage have been logged."""
        raise NotImplementedError

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Discard batches of an evaluation that was interrupted."""
        self._targets: list[Tensor] = []
        self._logits: list[Tensor] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Collect the batch."""
        if _stage(trainer) in self.stages:
            assert isinstance(outputs, Tensor)
            self._targets.append(batch[1])
            self._logits.append(outputs)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pass all predictions on."""
        if trainer.sanity_checking or not self._targets:
            return
        targets, logits = all_batches(trainer, self._targets), all_batches(trainer, self._logits)
        self._targets, self._logits = [], []
        if trainer.is_global_zero:
            assert isinstance(pl_module, ImageClassifier)
            stage, datamodule = _stage(trainer), getattr(trainer, "datamodule", None)
            files = datamodule.files(stage) if isinstance(datamodule, ImageDataModule) else []
            predictions = from_logits(torch.cat(targets), torch.cat(logits), pl_module.class_names, files)
            self.on_predictions(trainer, pl_module, stage, predictions)

    on_test_start = on_validation_start
    on_test_batch_end = on_validation_batch_end
    on_test_end = on_validation_end


def _stage(trainer: Trainer) -> Stage:
    return "test" if trainer.testing else "val"


def from_logits(targets: Tensor, logits: Tensor, class_names: list[str], files: Sequence[str] = ()) -> Predictions:
    """Return the predictions that logits stand for.

    Args:
        targets: True class of each image, `(N,)`, on any device.
        logits: Output of the network, `(N, C)`, on any device.
        class_names: Names of the C classes.
        files: Name of the file of each image, and perhaps of others after them; none if they have none.
    """
    targets, logits = targets.cpu(), logits.float().cpu()
    probabilities = logits.softmax(dim=1)
    return Predictions(
        class_names=class_names,
        targets=targets.numpy(),
        predicted=logits.argmax(dim=1).numpy(),
        confidence=probabilities.amax(dim=1).numpy(),
        losses=functional.cross_entropy(logits, targets, reduction="none").numpy(),
        index=np.arange(len(targets)),
        probabilities=probabilities.numpy(),
        files=files[: len(targets)] or None,
    )


def all_batches(trainer: Trainer, batches: list[Tensor]) -> list[Tensor]:
    """Return the batches of all ranks in the order of the dataset, whose batches the ranks take in turn."""
    if trainer.world_size == 1:
        return batches
    gathered: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(gathered, [batch.cpu() for batch in batches])
    return [batch for turn in zip(*gathered, strict=True) for batch in turn]
