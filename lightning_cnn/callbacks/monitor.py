"""The metric that decides which checkpoint of a run is the best, for the callbacks that show it."""

import math
from typing import NamedTuple

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class Monitor(NamedTuple):
    """What a checkpoint callback monitors.

    Attributes:
        metric: Name of the metric, for example `val/acc`.
        mode: Whether a higher (`max`) or a lower (`min`) value is better.
        best: The value of the best checkpoint so far; None if there is none.

    Example:
        >>> Monitor("val/loss", "min", best=0.3).is_better(0.2)
        True
    """

    metric: str
    mode: str
    best: float | None

    @classmethod
    def of(cls, callback: ModelCheckpoint) -> "Monitor":
        """Return what a checkpoint callback with a `monitor` monitors."""
        score = callback.best_model_score
        return cls(str(callback.monitor), callback.mode, None if score is None else score.item())

    def is_better(self, value: float) -> bool:
        """Whether a value is better than the best so far; NaN never is."""
        if math.isnan(value) or self.best is None:
            return not math.isnan(value)
        return value > self.best if self.mode == "max" else value < self.best


def monitor_of(trainer: Trainer) -> Monitor | None:
    """Return what the first checkpoint callback with a `monitor` monitors; None if there is no such callback.

    Checkpoint callbacks run after all others, so other callbacks still find the best of the validations before.
    """
    monitored = (c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor is not None)
    return next(map(Monitor.of, monitored), None)
