"""`ImageClassifier`: preprocessing, loss, metrics, and one step for training, validation and test.

It works with Lightning's Trainer as well as with ours, and must not import `lightning_cnn.data`.
"""

from collections.abc import Callable, Mapping
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
from lightning_cnn.classifiers import arguments, losses, optimizers, views
from lightning_cnn.classifiers import network as networks
from lightning_cnn.classifiers.metrics import MetricCallable, StageMetrics
from lightning_cnn.classifiers.pretrained import load_pretrained
from lightning_cnn.errors import DivergenceError, UserError
from lightning_cnn.networks.sizes import IMAGE_SIZE

Batch = tuple[Tensor, Tensor]
Stage = Literal["train", "val", "test"]


class ImageClassifier(LightningModule):
    """A network with its preprocessing, loss and metrics: by default cross-entropy and accuracy.

    Mean and standard deviation are buffers, so that every checkpoint and export contains the preprocessing. Lightning's
    own Trainer trains it as well: `ModelCheckpoint` and `EarlyStopping` can monitor `val/loss` and `val/acc`, and
    `Tuner.lr_find` sets `lr`.

    Args:
        network: Maps float images `(B, C, H, W)` to logits `(B, num_classes)`: a class such as
            `lightning_cnn.networks.CNN`, or a function that returns a module, such as `torchvision.models.resnet18`.
            It is built with `num_classes`, `in_channels` and `image_size`, as far as it has arguments with these
            names. In Python also a module; its parameters get the memory format `channels_last`, and nothing else of it
            is changed.
        optimizer: Builds the optimizer from the parameters, for example `torch.optim.Adam`.
        scheduler: Builds the learning-rate schedule from the optimizer. `OneCycleLR` and `CyclicLR` are stepped after
            every step of the optimizer, all others after every epoch; `total_steps` defaults to the steps of the run.
            `ReduceLROnPlateau` without a `monitor` monitors the metric of the checkpoints if that has the same mode,
            otherwise `val/loss`, or with `mode: max`, `val/acc`. None for a constant learning rate.
        mean: Mean of the pixels scaled to [0, 1], which is subtracted; for all channels, or a list with one for each.
        std: Standard deviation of the pixels scaled to [0, 1], by which they are divided, likewise; greater than 0.
        num_classes: Number of classes, at least 2; on the command line, that of the data.
        in_channels: Number of channels of the images, at least 1; on the command line, that of the data.
        image_size: Side of the images in pixels, or height and width; on the command line, that of the data.
        label_smoothing: Share of each training target that is spread over all classes, 0 to 1; see Szegedy et al.,
            "Rethinking the Inception Architecture for Computer Vision" (arXiv:1512.00567).
        class_weights: Weight of each class in the cross-entropy of training, in the order of the labels, as in
            `torch.nn.CrossEntropyLoss`; `balanced` is N / (C · n) for a class with n of N training images.
        loss: Maps logits `(B, num_classes)` and targets `(B,)` to a scalar, the mean over the batch, for example
            `lightning_cnn.classifiers.losses.FocalLoss` or `torch.nn.MultiMarginLoss`, in training, validation and
            test. None for cross-entropy.
        metrics: Metrics besides loss and accuracy, by name: classes of torchmetrics that are built with `num_classes`,
            for example `{f1: torchmetrics.classification.MulticlassF1Score}`, which logs `train/f1`, `val/f1` and
            `test/f1`.
        test_time_flip: Whether the logits outside of training are the mean of those for the image and for its mirror
            image.
        test_time_shift: By how many pixels an image is shifted along its four diagonals outside of training, less than
            its shorter side. The logits are then half those of the image, and half the mean of those of its shifts,
            which are black where nothing is left. 0 for no shifts.
        weights: Weights that the network starts from: a checkpoint or an exported file, a run folder (for its best
            checkpoint), `best`, `last` or `previous` of the newest run in `logs`, or weights of this package, such as
            `mnist`. Layers of another shape, such as the last one for other classes, start anew. A checkpoint of this
            classifier has weights of its own, and replaces them.

    Raises:
        ValueError: If an argument is out of its range, or does not fit another.
        UserError: If the network cannot be built.

    Example:
        >>> from lightning_cnn.networks import ThreeStageCNN
        >>> classifier = ImageClassifier(ThreeStageCNN, mean=0.5, std=0.25, num_classes=4, in_channels=3, image_size=32)
        >>> classifier(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape
        torch.Size([2, 4])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: networks.Network,
        optimizer: OptimizerCallable = Adam,
        scheduler: LRSchedulerCallable | None = None,
        mean: float | list[float] = 0.0,
        std: float | list[float] = 1.0,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int | tuple[int, int] = IMAGE_SIZE,
        label_smoothing: float = 0.0,
        class_weights: Literal["balanced"] | list[float] | None = None,
        loss: nn.Module | None = None,
        metrics: dict[str, MetricCallable] | None = None,
        test_time_flip: bool = False,
        test_time_shift: int = 0,
        weights: str | None = None,
    ) -> None:
        mean, std = arguments.statistics(mean, std, in_channels)
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        if in_channels < 1:
            raise ValueError(f"in_channels must be at least 1, got {in_channels}")
        height, width = arguments.height_and_width(image_size)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing must be between 0 and 1, got {label_smoothing}")
        if not 0 <= test_time_shift < min(height, width):
            raise ValueError(
                f"test_time_shift must be between 0 and {min(height, width) - 1}, the shorter side of an image less 1, "
                f"got {test_time_shift}"
            )
        losses.require_class_weights(class_weights, num_classes)
        if loss is not None and (class_weights is not None or label_smoothing):
            raise ValueError("loss takes neither class_weights nor label_smoothing: both are of cross-entropy")
        super().__init__()
        # Plain values only: a checkpoint that contains objects cannot be loaded with `weights_only=True`.
        self.save_hyperparameters(ignore=["network", "optimizer", "scheduler", "loss", "metrics", "weights"])
        shape = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
        self.network_name, self.network_config = networks.name_of(network), networks.config_of(network)
        self.network = networks.in_channels_last(networks.build(network, shape), (in_channels, height, width))
        if weights is not None:
            load_pretrained(self.network, weights)
        self.optimizer = optimizer
        self.scheduler = scheduler
        self._lr: float | None = None  # in place of that of the optimizer
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.loss = loss
        self.test_time_flip = test_time_flip
        self.test_time_shift = test_time_shift
        self.register_buffer("mean", arguments.broadcastable(mean))
        self.register_buffer("std", arguments.broadcastable(std))
        is_list = class_weights is not None and not isinstance(class_weights, str)
        self._class_weights = losses.ClassWeights(class_weights) if is_list else None  # type: ignore[arg-type]
        self.example_input_array = torch.zeros(1, in_channels, height, width, dtype=torch.uint8)
        #: Maps images, logits and loss of a training batch to the loss in its place; `Distillation` sets it.
        self.distill: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
        self._counted: tuple[int, int] | None = None  # the step and the batch that the training metrics have last
        self.metrics = nn.ModuleDict(
            {f"{stage}_metrics": StageMetrics(num_classes, metrics) for stage in get_args(Stage)}
        )

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; for text that takes the place of other text, there is no need to look for parameters first.

        Lightning sets the name of the current hook some forty times per step, each time in 0.3 instead of 1.9 µs.
        """
        if (value is None or isinstance(value, str)) and name in self.__dict__:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        example = self.example_input_array
        assert isinstance(example, Tensor)
        channels, height, width = example.shape[1:]
        return channels, height, width

    @property
    def class_names(self) -> list[str]:
        """The class names of the trainer's data module, or the class indices if there is none."""
        names = checkpoints.class_names(self) if self._attached_trainer() else None
        return names or [str(index) for index in range(self.num_classes)]

    @property
    def train_metrics(self) -> StageMetrics:
        """The metrics of the current training epoch."""
        return self._metrics("train")

    @property
    def lr(self) -> float:
        """The learning rate that the optimizer starts with; `LearningRateFinder` and `Tuner` of Lightning set it."""
        return float(self.optimizer([*self.parameters()]).param_groups[0]["lr"]) if self._lr is None else self._lr

    @lr.setter
    def lr(self, lr: float) -> None:
        if trainer := self._attached_trainer():
            optimizers.set_base_lr(trainer.lr_scheduler_configs, lr)
        self._lr = lr

    def preprocess(self, images: Tensor) -> Tensor:
        """Scale images `(B, C, H, W)` to [0, 1] and normalise them: the input of the network.

        Args:
            images: uint8 from 0 to 255, or floating point of any precision in [0, 1], such as torchvision's `ToTensor`
                makes them.

        Raises:
            UserError: If the images are of another type.
        """
        if images.dtype == torch.uint8:
            # (x / 255 − mean) / std in two passes over the pixels
            return (images - 255 * self.mean).div_(255 * self.std)
        if not images.is_floating_point():
            raise UserError(
                f"images must be torch.uint8 (0 to 255) or floating point (0 to 1), got {images.dtype}; convert them "
                "with `.to(torch.uint8)`, or divide them by their largest value"
            )
        return (images.to(self.mean.dtype) - self.mean).div_(self.std)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, C, H, W)`, uint8 or floating point, as in `preprocess`."""
        if self.training:
            return self._logits(images)
        return views.mean_logits(self._logits, images, self.test_time_flip, self.test_time_shift)

    def _logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(self.preprocess(images))
        return logits

    # With `torch.compile`, `forward` is compiled, and not the steps around it: they differ from call to call, and would
    # be compiled again each time. And inductor drops the gradient of a loss that is also kept without it, as a metric.
    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator, no-untyped-call]
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss; every `log_every_n_steps` steps it is logged as `train/loss_step`."""
        loss, _ = self._step(batch, "train")
        return self._weigh_and_log(loss, batch[1])  # type: ignore[no-any-return]  # its decorator is untyped

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
        return self._batch_logits(batch if isinstance(batch, Tensor) else batch[0]).softmax(dim=1)

    def _batch_logits(self, images: Tensor) -> Tensor:
        """Return the logits of images; the last batch of a rank may have none, which not every network takes."""
        logits: Tensor = self(images if len(images) else images.new_zeros(1, *images.shape[1:]))
        return logits[: len(images)]

    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator, no-untyped-call]
    def _step(self, batch: Batch, stage: Stage) -> tuple[Tensor, Tensor]:
        """Return the mean loss and the logits of a batch, and add both to the metrics of the stage."""
        images, targets = batch
        try:
            logits = self._batch_logits(images)
        except ValueError as error:
            networks.require_several_images(self.network_name, error)
            raise
        loss = self._loss(logits, targets, stage)
        if stage == "train" and self.distill is not None:
            weight = self._weight_of_taught(targets)
            loss = weight * self.distill(images, logits, loss / weight)
        self._add_to_metrics(stage, loss, logits, targets)
        return loss, logits

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _loss(self, logits: Tensor, targets: Tensor, stage: Stage) -> Tensor:
        """Return the mean loss of a batch; smoothing and weights of the classes are for training only."""
        if self.loss is not None:
            loss: Tensor = self.loss(logits, targets)
            return loss
        if stage != "train":
            return functional.cross_entropy(logits, targets)
        if (weights := self._class_weights) is not None:
            return weights.cross_entropy(logits, targets, weights.tensor(self.mean), self.label_smoothing)
        return functional.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)

    def measure(self, logits: Tensor, targets: Tensor) -> dict[str, float]:
        """Return the metrics of the test, `test/acc` and `test/loss` among them, for logits from elsewhere.

        Args:
            logits: `(N, num_classes)` of all test images.
            targets: Their classes `(N,)`.
        """
        metrics = self._metrics("test")
        metrics.reset()
        metrics.add(self._loss(logits, targets, "test"), logits, targets)
        metrics.flush()
        values = {f"test/{name}": metric.compute().item() for name, metric in metrics.named.items()}
        metrics.reset()
        return values

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _add_to_metrics(self, stage: Stage, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        if stage == "train" and (trainer := self._attached_trainer()):
            place = (trainer.global_step, trainer.fit_loop.batch_idx)
            if place == self._counted:  # LBFGS evaluates a batch many times
                return
            self._counted = place
        weights = self._class_weights if stage == "train" else None
        weight = None if weights is None else weights.tensor(self.mean)[targets].sum()
        self._metrics(stage).add(loss, logits, targets, weight)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _weigh_and_log(self, loss: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch as this rank is to minimise it, and log it if that is due."""
        if (trainer := self._attached_trainer()) is None:
            return loss
        loss = loss * self._weight_of_rank(targets)
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it from outside
        if every and (trainer.global_step + 1) % every == 0:  # when loggers are called; `log` in every step is slow
            self.log("train/loss_step", loss, prog_bar=True, sync_dist=True)
        return loss

    def _weight_of_rank(self, targets: Tensor) -> float:
        """Return the factor with which the mean of gradients over ranks is the mean over all images of the step.

        It is 1 unless ranks have other weights: fewer images in the last batch of an epoch, or other classes.
        """
        weights = self._class_weights
        if self.trainer.world_size == 1 or not (self.trainer.is_last_batch or weights):
            return 1.0
        if weights is None:
            return self._over_mean(len(targets))
        return self._over_mean(sum(weights.weights[label] for label in targets.tolist()))

    def _weight_of_taught(self, targets: Tensor) -> float:
        """Return the weight of what is taught, which is a mean over images, in a loss that is weighted by classes.

        It is 1 in one process. In several, the loss gets the weight of its rank, which is here taken from this part.
        """
        trainer = self._attached_trainer()
        if trainer is None or trainer.world_size == 1 or self._class_weights is None:
            return 1.0
        return self._over_mean(len(targets)) / (self._weight_of_rank(targets) or 1.0)

    def _over_mean(self, weight: float) -> float:
        """Return a weight of this rank divided by the mean over all ranks."""
        mean = self.trainer.strategy.reduce(torch.tensor(float(weight), device=self.device), reduce_op="mean").item()
        return weight / mean if mean else 1.0

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
        if self.trainer.world_size > 1:
            metrics.fill_empty_lists(self.num_classes)
        is_evaluated = self.trainer.state.fn in ("validate", "test")  # training has its own check
        if is_evaluated and not metrics.loss.compute().isfinite():
            raise DivergenceError(
                f"{stage}/loss is NaN or infinite, so that {stage}/acc says nothing; use another checkpoint"
            )
        for name, metric in metrics.named.items():
            self.log(f"{stage}/{name}", metric, prog_bar=name in ("loss", "acc"))

    def _metrics(self, stage: Stage) -> StageMetrics:
        metrics = self.metrics[f"{stage}_metrics"]
        assert isinstance(metrics, StageMetrics)
        return metrics

    def setup(self, stage: str) -> None:
        """Refuse data with another number of classes or another shape, and a network or a loss that does not fit.

        Raises:
            UserError: If one of them does not fit.
        """
        self._counted = None
        arguments.require_classes(checkpoints.class_names(self), self.num_classes)
        found = getattr(self.trainer.datamodule, "image_shape", None)  # type: ignore[attr-defined]
        arguments.require_shape(found, self.image_shape)
        if stage != "fit":
            return
        if self.hparams.get("class_weights") == "balanced":
            balanced = losses.balanced_weights(self._train_targets(), self.num_classes)
            self._class_weights = losses.ClassWeights(balanced)
        if found is not None:  # without a data module, the images may have any shape
            self.require_fitting_network()

    def require_moderate_network(self) -> None:
        """Refuse a network without logits, or one that needs more memory for an image than any machine should have.

        The classifier must have been built on the meta device, and is of no use afterwards.

        Raises:
            UserError: If it is one.
        """
        networks.require_moderate(self.network_name, self.network, self.image_shape, self.num_classes)

    def require_fitting_network(self) -> None:
        """Refuse a network or a loss that does not fit the images, those of this package aside.

        Raises:
            UserError: If one of them does not fit.
        """
        if type(self.network).__module__.startswith("lightning_cnn.networks") and self.loss is None:
            return
        images = torch.zeros(2, *self.image_shape, dtype=torch.uint8, device=self.device)
        logits = networks.require_logits(self.network_name, self.network, self.preprocess(images), self.num_classes)
        if self.loss is not None:
            losses.require_scalar(self.loss, logits)

    def _train_targets(self) -> Tensor:
        """The targets of all training images.

        Raises:
            UserError: If there is no data module that has them in memory.
        """
        datamodule = getattr(self.trainer, "datamodule", None)
        if (images := getattr(datamodule, "train_set", None)) is None:
            raise UserError("class_weights balanced needs an ImageDataModule; give a list of weights instead")
        targets: Tensor = images.targets
        return targets

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
        """Refuse a schedule of another length; for an evaluation, forget the progress of the run.

        Raises:
            UserError: If the number of steps differs.
        """
        trainer = self._attached_trainer()
        if trainer and trainer.training:
            optimizers.require_same_total_steps(checkpoint.get("lr_schedulers", []), self.scheduler, trainer)
        elif trainer:
            checkpoint.pop("loops", None)  # which Lightning would trust

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
        if self.loss is None:  # which only training needs
            found = {name: weight for name, weight in found.items() if not name.startswith("loss.")}
            state_dict = found.copy()
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
