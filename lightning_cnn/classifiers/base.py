"""`ImageClassifier`: preprocessing, loss, metrics, and one step for training, validation and test.

It works with Lightning's Trainer as well as with ours, and must not import `lightning_cnn.data`.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, get_args

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import LRSchedulerTypeUnion, OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.classifiers import optimizers
from lightning_cnn.classifiers.metrics import StageMetrics
from lightning_cnn.errors import UserError

Batch = tuple[Tensor, Tensor]
Stage = Literal["train", "val", "test"]


class ImageClassifier(LightningModule):
    """A network with its preprocessing, cross-entropy loss and accuracy.

    Mean and standard deviation are buffers, so that every checkpoint and export contains the preprocessing.

    Args:
        network: Maps float images `(B, 1, 28, 28)` to logits `(B, num_classes)`. Its parameters get the memory format
            `channels_last`; nothing else of it is changed.
        optimizer: Builds the optimizer from the parameters, for example `torch.optim.Adam`.
        scheduler: Builds the learning-rate schedule from the optimizer. `OneCycleLR` and `CyclicLR` are stepped after
            every batch, all others after every epoch; `total_steps` defaults to the steps of the run.
            `ReduceLROnPlateau` without a `monitor` monitors `val/loss`, or with `mode: max`, `val/acc`. None for a
            constant learning rate.
        mean: Mean of the pixels scaled to [0, 1], which is subtracted.
        std: Standard deviation of the pixels scaled to [0, 1], by which they are divided; greater than 0.
        num_classes: Number of classes, at least 2.
        label_smoothing: Share of each training target that is spread over all classes, 0 to 1; see Szegedy et al.,
            "Rethinking the Inception Architecture for Computer Vision" (arXiv:1512.00567).

    Raises:
        ValueError: If `std`, `num_classes` or `label_smoothing` is out of its range.

    Example:
        >>> classifier = ImageClassifier(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), mean=0.5, std=0.5)
        >>> classifier(torch.zeros(2, 1, 28, 28, dtype=torch.uint8)).shape
        torch.Size([2, 10])
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
        # Scalars only: a checkpoint that contains objects cannot be loaded with `weights_only=True`.
        self.save_hyperparameters(ignore=["network", "optimizer", "scheduler"])
        # Changes the strides of the weights only; on a CPU, convolutions are 1.0 to 1.4 times as fast.
        self.network = network.to(memory_format=torch.channels_last)
        self.optimizer = optimizer
        self.scheduler = scheduler
        self._lr: float | None = None  # in place of that of the optimizer
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        self.example_input_array = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
        self._counted: tuple[int, int] | None = None  # the step and the batch that the training metrics have last
        self.metrics = nn.ModuleDict({f"{stage}_metrics": StageMetrics(num_classes) for stage in get_args(Stage)})

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; Lightning sets one some forty times per step, in which `nn.Module` looks for parameters."""
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def class_names(self) -> list[str]:
        """The class names of the trainer's data module, or the class indices if there is none."""
        names = checkpoints.class_names(self) if self._attached_trainer() else None
        return names or [str(index) for index in range(self.num_classes)]

    @property
    def train_metrics(self) -> StageMetrics:
        """Loss and accuracy of the current training epoch."""
        return self._metrics("train")

    @property
    def lr(self) -> float:
        """The learning rate that the optimizer starts with; `LearningRateFinder` and `Tuner` of Lightning set it."""
        return optimizers.learning_rate(self.optimizer, self.parameters()) if self._lr is None else self._lr

    @lr.setter
    def lr(self, lr: float) -> None:
        if trainer := self._attached_trainer():
            optimizers.set_base_lr(trainer.lr_scheduler_configs, lr)
        self._lr = lr

    def preprocess(self, images: Tensor) -> Tensor:
        """Scale images `(B, 1, 28, 28)` to [0, 1] and normalise them: the input of the network.

        Args:
            images: uint8 from 0 to 255, or floating point of any precision in [0, 1], such as torchvision's `ToTensor`
                makes them.

        Raises:
            UserError: If the images are of another type.
        """
        if images.dtype == torch.uint8:
            return (images - 255 * self.mean).div_(
                255 * self.std
            )  # (x / 255 − mean) / std in two passes over the pixels
        if not images.is_floating_point():
            raise UserError(
                f"images must be torch.uint8 (0 to 255) or floating point (0 to 1), got {images.dtype}; convert them "
                "with `.to(torch.uint8)`, or divide them by their largest value"
            )
        return (images.to(self.mean.dtype) - self.mean).div_(self.std)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, 1, 28, 28)`, uint8 or floating point, as in `preprocess`."""
        logits: Tensor = self.network(self.preprocess(images))
        return logits

    # With `torch.compile`, `forward` is compiled, and not the steps around it: they differ from call to call, and would
    # be compiled again each time. And inductor drops the gradient of a loss that is also kept without it, as a metric.
    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator, no-untyped-call]
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss; every `log_every_n_steps` steps it is logged as `train/loss_step`."""
        loss, _ = self._step(batch, "train")
        return self._weigh_and_log(loss, len(batch[1]))  # type: ignore[no-any-return]  # its decorator is untyped

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Add a batch to `val/loss` and `val/acc`; return its logits for callbacks."""
        logits: Tensor = self._step(batch, "val")[1]
        return logits

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Add a batch to `test/loss` and `test/acc`; return its logits for callbacks."""
        logits: Tensor = self._step(batch, "test")[1]
        return logits

    def predict_step(self, batch: Batch | Tensor, batch_idx: int = 0) -> Tensor:
        """Return the probabilities of the classes `(B, num_classes)`, for images alone or with their targets."""
        logits: Tensor = self(batch if isinstance(batch, Tensor) else batch[0])
        return logits.softmax(dim=1)

    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator, no-untyped-call]
    def _step(self, batch: Batch, stage: Stage) -> tuple[Tensor, Tensor]:
        """Return the mean loss and the logits of a batch, and add both to the metrics of the stage."""
        images, targets = batch
        logits = self(images)
        smoothing = self.label_smoothing if stage == "train" else 0.0
        loss = functional.cross_entropy(logits, targets, label_smoothing=smoothing)
        self._add_to_metrics(stage, loss, logits, targets)
        return loss, logits

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _add_to_metrics(self, stage: Stage, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        if stage == "train" and (trainer := self._attached_trainer()):
            place = (trainer.global_step, trainer.fit_loop.batch_idx)
            if place == self._counted:  # LBFGS evaluates a batch many times
                return
            self._counted = place
        self._metrics(stage).add(loss, logits, targets)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _weigh_and_log(self, loss: Tensor, count: int) -> Tensor:
        """Return the loss of `count` images as this rank is to minimise it, and log it if that is due."""
        if (trainer := self._attached_trainer()) is None:
            return loss
        loss = loss * self._weight_of_rank(count)
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it from outside
        if every and (trainer.global_step + 1) % every == 0:  # when loggers are called; `log` in every step is slow
            self.log("train/loss_step", loss, prog_bar=True, sync_dist=True)
        return loss

    def _weight_of_rank(self, count: int) -> float:
        """Return the factor with which the mean of gradients over ranks is the mean over all images of the step.

        It is 1 unless this is the last batch of an epoch, of which some ranks have fewer images.
        """
        if self.trainer.world_size == 1 or not self.trainer.is_last_batch:
            return 1.0
        counts = torch.tensor(float(count), device=self.device)
        return count / self.trainer.strategy.reduce(counts, reduce_op="mean").item()

    def on_train_epoch_end(self) -> None:
        """Log `train/loss` and `train/acc`: means over the epoch, during which the weights change."""
        self.train_metrics.flush()
        if self.train_metrics.loss.update_called:  # not if resumed at its end, from a checkpoint without its metrics
            self._log_epoch("train")

    def on_validation_epoch_end(self) -> None:
        """Log `val/loss` and `val/acc`."""
        self._log_epoch("val")

    def on_test_epoch_end(self) -> None:
        """Log `test/loss` and `test/acc`."""
        self._log_epoch("test")

    def _log_epoch(self, stage: Stage) -> None:
        metrics = self._metrics(stage)
        metrics.flush()
        self.log(f"{stage}/loss", metrics.loss, prog_bar=True)
        self.log(f"{stage}/acc", metrics.acc, prog_bar=True)

    def _metrics(self, stage: Stage) -> StageMetrics:
        metrics = self.metrics[f"{stage}_metrics"]
        assert isinstance(metrics, StageMetrics)
        return metrics

    def setup(self, stage: str) -> None:
        """Refuse data with another number of classes.

        Raises:
            UserError: If the data module has more or fewer classes than the model has logits.
        """
        self._counted = None
        names = checkpoints.class_names(self)
        if names is not None and len(names) != self.num_classes:
            raise UserError(
                f"the model has num_classes {self.num_classes}, but the data has {len(names)} classes; "
                f"set --model.num_classes {len(names)}"
            )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer, and the schedule if there is one.

        Raises:
            UserError: If their arguments are invalid.
        """
        return optimizers.build(self.optimizer, self.scheduler, self.parameters(), self._attached_trainer(), self._lr)

    def lr_scheduler_step(self, scheduler: LRSchedulerTypeUnion, metric: Any | None) -> None:
        """Step the schedule.

        Raises:
            UserError: If it is at its end: `OneCycleLR` has a fixed number of steps.
        """
        try:
            super().lr_scheduler_step(scheduler, metric)
        except ValueError as error:
            raise UserError(
                f"the schedule is shorter than the run ({error}); give it more steps, or leave them open with "
                "--model.scheduler.total_steps null"
            ) from error

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description that makes the checkpoint self-contained, unless a callback has added a fuller one."""
        checkpoint.setdefault(checkpoints.KEY, checkpoints.describe(self))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a schedule of another length.

        Raises:
            UserError: If the number of steps differs.
        """
        if (trainer := self._attached_trainer()) and trainer.training:
            optimizers.require_same_total_steps(checkpoint["lr_schedulers"], self.scheduler, trainer)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights, but refuse those of another architecture.

        Args:
            state_dict: The weights.
            strict: Whether the names must be the same; shapes must be in any case.
            assign: See `torch.nn.Module.load_state_dict`.

        Raises:
            UserError: If a weight is of another shape, or if one is missing or unexpected and `strict` is true.
        """
        expected, found = self.state_dict(), dict(state_dict)
        for name in [] if strict else expected.keys() ^ found.keys():
            expected.pop(name, None)
            found.pop(name, None)
        checkpoints.require_same_shapes(expected, found)
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def _attached_trainer(self) -> Trainer | None:
        """The trainer; None where Lightning's property raises, or stands for Fabric."""
        with suppress(RuntimeError):
            return self.trainer if self.fabric is None else None
        return None
