"""What all classifiers share: preprocessing, loss, metrics, and one step for training, validation and test."""

from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.errors import UserError

Batch = tuple[Tensor, Tensor]
Stage = Literal["train", "val", "test"]


class ImageClassifier(LightningModule):
    """A network with its preprocessing, cross-entropy loss and accuracy.

    The preprocessing is part of the model, as buffers: it travels inside every checkpoint, so that whatever uses the
    weights sees the pixels that training saw.

    Args:
        network: Takes float images `(B, 1, 28, 28)` and returns logits `(B, num_classes)`.
        optimizer: Makes the optimizer from the parameters, for example `torch.optim.Adam`.
        scheduler: Makes the learning-rate schedule from the optimizer; stepped once an epoch. None keeps the rate.
        mean: Subtracted from the pixels after they were scaled to [0, 1].
        std: Divides the pixels after that; greater than 0.
        num_classes: Number of classes, at least 2.

    Raises:
        ValueError: If `std` or `num_classes` is out of its range.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        optimizer: OptimizerCallable = Adam,
        scheduler: LRSchedulerCallable | None = None,
        mean: float = 0.0,
        std: float = 1.0,
        num_classes: int = 10,
    ) -> None:
        if std <= 0:
            raise ValueError(f"std must be greater than 0, got {std}")
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        super().__init__()
        # Only scalars: a checkpoint with objects in it could not be loaded without trusting its author.
        self.save_hyperparameters(ignore=["network", "optimizer", "scheduler"], logger=False)
        self.network = network
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.num_classes = num_classes
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        self.example_input_array = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
        self.metrics = nn.ModuleDict()
        for stage in ("train", "val", "test"):
            self.metrics[f"{stage}_loss"] = MeanMetric()
            self.metrics[f"{stage}_acc"] = MulticlassAccuracy(num_classes, average="micro")

    def preprocess(self, images: Tensor) -> Tensor:
        """Scale uint8 images `(B, 1, 28, 28)` to [0, 1] and normalise them: what the network sees."""
        return (images.to(self.mean.dtype) / 255 - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for uint8 images `(B, 1, 28, 28)` with grey values 0 to 255."""
        logits: Tensor = self.network(self.preprocess(images))
        return logits

    def _step(self, batch: Batch, stage: Stage) -> tuple[Tensor, Tensor]:
        """Return the mean loss and the logits of a batch, and count both into the metrics of the stage."""
        images, targets = batch
        logits = self(images)
        loss = functional.cross_entropy(logits, targets)
        self._metric(stage, "loss").update(loss.detach(), weight=len(targets))
        self._metric(stage, "acc").update(logits.detach(), targets)
        return loss, logits

    def _metric(self, stage: Stage, name: str) -> Metric:
        metric = self.metrics[f"{stage}_{name}"]
        assert isinstance(metric, Metric)
        return metric

    def _log_epoch(self, stage: Stage) -> None:
        for name in ("loss", "acc"):
            self.log(f"{stage}/{name}", self._metric(stage, name), prog_bar=True)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss to descend; its value goes to the loggers every `log_every_n_steps` batches."""
        loss, _ = self._step(batch, "train")
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it from outside
        if (batch_idx + 1) % every == 0:  # logging every batch would slow the smaller networks down
            self.log("train/loss_step", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch into `val/loss` and `val/acc`."""
        self._step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Count a batch into `test/loss` and `test/acc`; return its logits for whoever keeps predictions."""
        _, logits = self._step(batch, "test")
        return logits

    def on_train_epoch_end(self) -> None:
        """Log `train/loss` and `train/acc`, the means over the epoch while the weights were changing."""
        self._log_epoch("train")

    def on_validation_epoch_end(self) -> None:
        """Log `val/loss` and `val/acc`."""
        self._log_epoch("val")

    def on_test_epoch_end(self) -> None:
        """Log `test/loss` and `test/acc`."""
        self._log_epoch("test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimizer, and the schedule if there is one.

        Raises:
            UserError: If one of them refuses its settings.
        """
        try:
            optimizer = self.optimizer(self.parameters())
            scheduler = None if self.scheduler is None else self.scheduler(optimizer)
        except (ValueError, TypeError) as error:
            raise UserError(f"the optimizer or its schedule refuses its settings: {error}") from error
        if scheduler is None:
            return optimizer
        if isinstance(scheduler, ReduceLROnPlateau):
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": scheduler.monitor}}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler}}

    def setup(self, stage: str) -> None:
        """Refuse data with another number of classes.

        Raises:
            UserError: If the data module has more or fewer classes than this model has logits.
        """
        names = checkpoints.class_names(self)
        if names is not None and len(names) != self.num_classes:
            raise UserError(
                f"the model has num_classes {self.num_classes}, but the data has {len(names)} classes; "
                f"set --model.num_classes {len(names)}"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down what makes the checkpoint enough by itself, unless a run that knows more has done so."""
        checkpoint.setdefault(checkpoints.KEY, checkpoints.describe(self))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the weights of another architecture.

        Raises:
            UserError: If a weight is missing, left over or of another shape.
        """
        checkpoints.require_same_shapes(self.state_dict(), checkpoint["state_dict"])
