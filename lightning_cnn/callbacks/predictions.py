"""All predictions of a validation or a test together, for callbacks that look at them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor
from torch.nn import functional

Stage = Literal["val", "test"]


@dataclass(frozen=True)
class Predictions:
    """What was predicted for all images of a dataset, in their order; on the CPU.

    Attributes:
        targets: True classes, int64, `(N,)`.
        logits: float32, `(N, C)`.
    """

    targets: Tensor
    logits: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def predicted(self) -> Tensor:
        """The most probable classes, int64, `(N,)`."""
        return self.logits.argmax(dim=1)

    @cached_property
    def probabilities(self) -> Tensor:
        """Probability of each class, `(N, C)`."""
        return self.logits.softmax(dim=1)

    @cached_property
    def confidence(self) -> Tensor:
        """Probability of the predicted class, `(N,)`."""
        return self.probabilities.amax(dim=1)

    @cached_property
    def losses(self) -> Tensor:
        """Cross-entropy of each image, `(N,)`."""
        return functional.cross_entropy(self.logits, self.targets, reduction="none")

    def worst_mistakes(self, n: int) -> Tensor:
        """The indices of at most n wrong predictions, highest loss first."""
        order = self.losses.argsort(descending=True, stable=True)
        return order[self.predicted[order] != self.targets[order]][:n]


class PredictionsCallback(Callback):
    """Base of the callbacks that look at all predictions together: they override `on_predictions`."""

    #: When to collect.
    stages: ClassVar[tuple[Stage, ...]] = ("test",)

    def on_predictions(
        self, trainer: Trainer, pl_module: LightningModule, stage: Stage, predictions: Predictions
    ) -> None:
        """Look at the predictions, in the first process only, after the figures of the stage were logged."""
        raise NotImplementedError

    def _begin(self) -> None:
        self._targets: list[Tensor] = []
        self._logits: list[Tensor] = []

    def _add(self, stage: Stage, outputs: STEP_OUTPUT, batch: Any) -> None:
        if stage in self.stages:
            assert isinstance(outputs, Tensor)
            self._targets.append(batch[1])
            self._logits.append(outputs)

    def _end(self, trainer: Trainer, pl_module: LightningModule, stage: Stage) -> None:
        if stage not in self.stages or trainer.sanity_checking or not self._targets:
            return
        targets, logits = _of_all_processes(trainer, self._targets), _of_all_processes(trainer, self._logits)
        self._begin()
        if trainer.is_global_zero:
            predictions = Predictions(torch.cat(targets).cpu(), torch.cat(logits).float().cpu())
            self.on_predictions(trainer, pl_module, stage, predictions)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier validation."""
        self._begin()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier test."""
        self._begin()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep targets and logits."""
        self._add("val", outputs, batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep targets and logits."""
        self._add("test", outputs, batch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put them together."""
        self._end(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put them together."""
        self._end(trainer, pl_module, "test")


def _of_all_processes(trainer: Trainer, batches: list[Tensor]) -> list[Tensor]:
    """Return the batches of all processes in the order of the dataset: they have taken turns in them."""
    if trainer.world_size == 1:
        return batches
    gathered: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(gathered, [batch.cpu() for batch in batches])
    return [batch for turn in zip(*gathered, strict=True) for batch in turn]
