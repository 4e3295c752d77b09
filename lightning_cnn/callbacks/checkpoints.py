"""The checkpoints of a run: the best weights, the last state, and the state before it."""

import math
from pathlib import Path
from time import monotonic
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_cnn.files import link_or_copy
from lightning_cnn.run import Run


class Checkpoints(Callback):
    """Saves what a run needs to go on exactly: `last.ckpt` after every epoch, and `best.ckpt` when `val/acc` has risen.

    The last state before it is kept as `previous.ckpt`. A run that is stopped by SIGTERM or Ctrl-C saves `last.ckpt`
    before it ends. Files are whole or absent, also if the process is killed while it writes. How often they are written
    changes nothing in what is learned.

    Args:
        every_n_steps: Save `last.ckpt` also after so many steps of the optimizer, at least 1.
        every_n_minutes: Save `last.ckpt` also when the last one is so old, more than 0; None for never.

    Raises:
        ValueError: If one of them is out of its range.
    """

    def __init__(self, every_n_steps: int | None = None, every_n_minutes: float | None = 10.0) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        if every_n_minutes is not None and not every_n_minutes > 0:
            raise ValueError(f"every_n_minutes must be greater than 0, got {every_n_minutes}")
        self.every_n_steps = every_n_steps
        self.seconds = math.inf if every_n_minutes is None else 60 * every_n_minutes
        self.best_acc: float | None = None
        self._measured = False

    def state_dict(self) -> dict[str, Any]:
        """Return the best accuracy so far: a run that goes on must beat it."""
        return {"best_acc": self.best_acc}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.best_acc = state_dict["best_acc"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and clear away what a process that was killed has left half-written."""
        self._saved_at = monotonic()
        if trainer.is_global_zero:
            for unfinished in _folder(trainer).glob(".*.part"):
                unfinished.unlink()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that there is a new accuracy."""
        self._measured = not trainer.sanity_checking

    def is_time(self, trainer: Trainer) -> bool:
        """Whether enough steps or, by the clock of this process, minutes have gone by."""
        steps_are_up = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        return steps_are_up or monotonic() - self._saved_at >= self.seconds

    def pass_safe_point(self, trainer: Trainer, is_due: bool) -> None:
        """Save if that is due, or if the accuracy has risen; all processes come here together and say the same."""
        was_measured, self._measured = self._measured, False
        is_best = was_measured and self._is_best(trainer)
        if was_measured or is_due:
            # What is logged may be ahead of the checkpoint, never behind it; and a run is followed by what it logs.
            for logger in trainer.loggers:
                logger.save()
        if is_due or is_best:
            self._save(trainer, is_best)

    def _is_best(self, trainer: Trainer) -> bool:
        acc = trainer.callback_metrics.get("val/acc")
        so_far = -math.inf if self.best_acc is None else self.best_acc
        if acc is None or not acc > so_far:
            return False
        self.best_acc = acc.item()
        return True

    def _save(self, trainer: Trainer, is_best: bool) -> None:
        folder = _folder(trainer)
        best, last, previous = (folder / f"{name}.ckpt" for name in ("best", "last", "previous"))
        if trainer.is_global_zero and last.is_file():
            link_or_copy(last, previous)
        # The best first: otherwise a run that is killed in between would go on from a state that takes it for saved.
        trainer.save_checkpoint(best if is_best else last, weights_only=False)
        if trainer.is_global_zero and is_best:
            link_or_copy(best, last)
        self._saved_at = monotonic()


def _folder(trainer: Trainer) -> Path:
    return Run(Path(trainer.default_root_dir)).checkpoints_folder
