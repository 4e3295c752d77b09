"""What all classifiers share: preprocessing, loss, metrics, and one step for training, validation and test."""

import math
from typing import Any, Literal, get_args

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.classifiers.layout import quick
from lightning_cnn.classifiers.metrics import StageMetrics
from lightning_cnn.errors import UserError

Batch = tuple[Tensor, Tensor]
Stage = Literal["train", "val", "test"]

#: Schedules that are made to be stepped after every batch; all others are stepped after every epoch.
_PER_STEP = (OneCycleLR, CyclicLR)


class ImageClassifier(LightningModule):
    """A network with its preprocessing, cross-entropy loss and accuracy.

    The preprocessing is part of the model, as buffers: it travels inside every checkpoint, so that whatever uses the
    weights sees the pixels that training saw.

    Args:
        network: Takes float images `(B, 1, 28, 28)` and returns logits `(B, num_classes)`.
        optimizer: Makes the optimizer from the parameters, for example `torch.optim.Adam`.
        scheduler: Makes the learning-rate schedule from the optimizer. `OneCycleLR` and `CyclicLR` are stepped once a
            batch, all others once an epoch; `total_steps` left open are those of the run. None keeps the rate.
        mean: Subtracted from the pixels after they were scaled to [0, 1].
        std: Divides the pixels after that; greater than 0.
        num_classes: Number of classes, at least 2.
        label_smoothing: Share of each training target that is spread over all classes, 0 to 1; see Szegedy et al.,
            "Rethinking the Inception Architecture for Computer Vision" (arXiv:1512.00567).

    Raises:
        ValueError: If `std`, `num_classes` or `label_smoothing` is out of its range.
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
        label_smoothing: float = 0.0,
    ) -> None:
        if std <= 0:
            raise ValueError(f"std must be greater than 0, got {std}")
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing must be between 0 and 1, got {label_smoothing}")
        super().__init__()
        # Only scalars: a checkpoint with objects in it could not be loaded without trusting its author.
        self.save_hyperparameters(ignore=["network", "optimizer", "scheduler"], logger=False)
        self.network = quick(network)
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        self.example_input_array = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
        self.metrics = nn.ModuleDict({f"{stage}_metrics": StageMetrics(num_classes) for stage in get_args(Stage)})

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute."""
        if name == "_current_fx_name":  # Lightning notes every hook it calls, 40 a step; a string is no parameter
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def class_names(self) -> list[str]:
        """The class names that the data module of the trainer knows, otherwise the numbers of the classes."""
        known = None if self._trainer is None else checkpoints.class_names(self)
        return known or [str(number) for number in range(self.num_classes)]

    @property
    def train_metrics(self) -> StageMetrics:
        """Loss and accuracy of the epoch that is being trained."""
        return self._metrics("train")

    def preprocess(self, images: Tensor) -> Tensor:
        """Scale uint8 images `(B, 1, 28, 28)` to [0, 1] and normalise them: what the network sees."""
        return (images - 255 * self.mean).div_(255 * self.std)  # (x / 255 − mean) / std, with less to do for each pixel

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for uint8 images `(B, 1, 28, 28)` with grey values 0 to 255."""
        logits: Tensor = self.network(self.preprocess(images))
        return logits

    def _step(self, batch: Batch, stage: Stage) -> tuple[Tensor, Tensor]:
        """Return the mean loss and the logits of a batch, and count both into the metrics of the stage."""
        images, targets = batch
        logits = self(images)
        smoothing = self.label_smoothing if stage == "train" else 0.0
        loss = functional.cross_entropy(logits, targets, label_smoothing=smoothing)
        self._metrics(stage).add(loss, logits, targets)
        return loss, logits

    def _metrics(self, stage: Stage) -> StageMetrics:
        metrics = self.metrics[f"{stage}_metrics"]
        assert isinstance(metrics, StageMetrics)
        return metrics

    def _log_epoch(self, stage: Stage) -> None:
        metrics = self._metrics(stage)
        metrics.settle()
        self.log(f"{stage}/loss", metrics.loss, prog_bar=True)
        self.log(f"{stage}/acc", metrics.acc, prog_bar=True)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss to descend; its value goes to the loggers every `log_every_n_steps` steps."""
        loss, _ = self._step(batch, "train")
        loss = loss * self._share(len(batch[1]))
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it from outside
        if (self.global_step + 1) % every == 0:  # when the loggers look; every batch would slow smaller networks down
            self.log("train/loss_step", loss, prog_bar=True, sync_dist=True)
        return loss

    def _share(self, count: int) -> float:
        """What makes the mean over processes, which they take of their gradients, one over all images of the step.

        That is 1 where each process has as many images as the others; in the last batch of an epoch, some have fewer.
        """
        if self.trainer.world_size == 1 or not self.trainer.is_last_batch:
            return 1.0
        counts = torch.tensor(float(count), device=self.device)
        return count / self.trainer.strategy.reduce(counts, reduce_op="mean").item()

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Count a batch into `val/loss` and `val/acc`; return its logits for whoever looks at predictions."""
        _, logits = self._step(batch, "val")
        return logits

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
            scheduler = None if self.scheduler is None else self.scheduler(optimizer, **self._open_settings())
        except (ValueError, TypeError) as error:
            raise UserError(f"the optimizer or its schedule refuses its settings: {error}") from error
        except ZeroDivisionError as error:
            raise UserError(
                f"{self.trainer.estimated_stepping_batches} steps are too few for this schedule; give it more epochs "
                "or batches, or leave it out with --model.scheduler null"
            ) from error
        _fuse(optimizer)
        if scheduler is None:
            return optimizer
        if isinstance(scheduler, ReduceLROnPlateau):
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": scheduler.monitor}}
        interval = "step" if isinstance(scheduler, _PER_STEP) else "epoch"
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}

    def _open_settings(self) -> dict[str, int]:
        """What only the run can say: how many steps it has, for a schedule whose `total_steps` is left open."""
        settings = getattr(self.scheduler, "keywords", {})  # those of a functools.partial
        if "total_steps" not in settings or settings["total_steps"] or settings.get("epochs"):
            return {}
        steps = self.trainer.estimated_stepping_batches
        if steps == math.inf:
            raise UserError("the schedule needs an end: set --model.scheduler.total_steps or --trainer.max_epochs")
        return {"total_steps": int(steps)}

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
        """Add the description that makes the checkpoint self-contained, unless a callback has added a fuller one."""
        checkpoint.setdefault(checkpoints.KEY, checkpoints.describe(self))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the weights of another architecture.

        Raises:
            UserError: If a weight is missing, left over or of another shape, or if the schedule is one of a longer or
                shorter run.
        """
        checkpoints.require_same_shapes(self.state_dict(), checkpoint["state_dict"])
        if self._trainer is None or not self._trainer.training or not (settings := self._open_settings()):
            return
        steps = settings["total_steps"]
        for schedule in checkpoint["lr_schedulers"]:
            if schedule.get("total_steps", steps) != steps:
                raise UserError(
                    f"the schedule of the checkpoint is made for {schedule['total_steps']} steps, but this run has "
                    f"{steps}; go on with the same number of epochs and batch size, or train anew"
                )


def _fuse(optimizer: Optimizer) -> None:
    """Let the optimizer change all weights in one operation where it can, unless it was told how to."""
    if optimizer.defaults.get("fused", False) is None and optimizer.defaults["foreach"] is None:
        for group in optimizer.param_groups:
            group["fused"] = True
