"""The checkpoints of a run: best, last, and the one before the last."""

import math
import os
from pathlib import Path
from time import monotonic
from typing import Any, Literal
from weakref import proxy

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import AsyncCheckpointIO
from torch import Tensor

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.callbacks.metrics_csv import MetricsCSV
from lightning_cnn.callbacks.monitor import Monitor
from lightning_cnn.errors import UserError, did_you_mean
from lightning_cnn.files import link_or_copy, remove_partial_files
from lightning_cnn.run import CHECKPOINT_NAMES, Run


class Checkpoints(ModelCheckpoint):
    """Saves `last.ckpt` after every epoch, and `best.ckpt` when the monitored metric has improved.

    The checkpoint before the last is kept as `previous.ckpt`. SIGTERM and Ctrl-C save `last.ckpt` before the run ends.
    Files are written atomically, at step boundaries, when the Trainer of this package calls `on_step_boundary`; the
    hooks in which Lightning's `ModelCheckpoint` saves do nothing. How often checkpoints are saved does not change the
    training.

    Args:
        monitor: The metric that decides which checkpoint is the best.
        mode: `max` if the metric is to be maximised, `min` if it is to be minimised.
        every_n_steps: Also save `last.ckpt` after this many optimizer steps, at least 1.
        every_n_minutes: Also save `last.ckpt` this long after the last save, greater than 0; None to turn it off.

    Raises:
        ValueError: If `every_n_steps` or `every_n_minutes` is out of its range.
    """

    def __init__(
        self,
        monitor: str = "val/acc",
        mode: Literal["min", "max"] = "max",
        every_n_steps: int | None = None,
        every_n_minutes: float | None = 10.0,
    ) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        if every_n_minutes is not None and not every_n_minutes > 0:
            raise ValueError(f"every_n_minutes must be greater than 0, got {every_n_minutes}")
        super().__init__(filename="best", monitor=monitor, mode=mode, save_last=True, enable_version_counter=False)
        self.every_n_steps = every_n_steps
        self.seconds = math.inf if every_n_minutes is None else 60 * every_n_minutes
        self._has_new_score = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the folder to that of the run; Lightning would use that of a logger.

        Raises:
            UserError: If the trainer is Lightning's, which has no step boundaries: nothing would be saved.
        """
        if not hasattr(trainer, "on_step_boundary"):
            raise UserError(
                f"{type(self).__name__} saves at the step boundaries of lightning_cnn.training.Trainer; use that, or "
                "Lightning's ModelCheckpoint in its place"
            )
        self.dirpath = str(Run(Path(trainer.default_root_dir)).checkpoints_folder)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the files of the user's callbacks in the same folder apart: their `last.ckpt` is named after the class.

        Raises:
            UserError: If another callback would save under the name of a checkpoint of the run.
        """
        for other in trainer.checkpoint_callbacks:
            folder, filename = getattr(other, "dirpath", None), getattr(other, "filename", None)
            if other is self or folder is None or os.path.realpath(folder) != os.path.realpath(str(self.dirpath)):
                continue
            if filename in CHECKPOINT_NAMES:
                raise UserError(
                    f"{type(other).__name__} would save {filename}.ckpt, which the run saves itself; give it another "
                    "filename or dirpath"
                )
            if isinstance(other, ModelCheckpoint) and other.CHECKPOINT_NAME_LAST == self.CHECKPOINT_NAME_LAST:
                other.CHECKPOINT_NAME_LAST = f"{type(other).__name__}-last"

    def state_dict(self) -> dict[str, Any]:
        """Return the best score, which a resumed run has to beat."""
        return {"best_model_score": self.best_model_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score."""
        self.best_model_score = state_dict["best_model_score"]
        if (best := self._path("best")).is_file():
            self.best_model_path = str(best)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock, and delete partial files of a process that was killed."""
        self._saved_at = monotonic()
        if trainer.is_global_zero:
            remove_partial_files(self._path("best").parent)

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a validation metric that is never logged before any training.

        Raises:
            UserError: If the sanity check has not logged the monitored metric.
        """
        if str(self.monitor).startswith("val"):
            self._require_logged(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that there is a new score."""
        self._has_new_score = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that there is a new score in a run without validation."""
        self._has_new_score |= not trainer.enable_validation

    def on_exception(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: this is not a step boundary, and the last epoch has been saved."""

    on_train_batch_end = on_exception

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """If a callback has stopped the training, store that this is done: a run that is resumed later goes on.

        Until then, a run that is killed and resumed stops where it would have stopped.
        """
        if not trainer.should_stop or not trainer.is_global_zero:
            return
        checkpoint_io = trainer.strategy.checkpoint_io
        if isinstance(checkpoint_io, AsyncCheckpointIO):
            checkpoint_io.teardown()  # wait until the files are written
        for path in filter(Path.is_file, map(self._path, ("best", "last"))):
            content = checkpoints.read(path)
            if (state := content["loops"][checkpoints.RESUME_KEY])["should_stop"]:
                state |= {"should_stop": False, "has_stopped": True}
                checkpoint_io.save_checkpoint(content, path)

    def is_due(self, trainer: Trainer) -> bool:
        """Whether `every_n_steps` or, by the clock of this process, `every_n_minutes` is reached."""
        enough_steps = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        return enough_steps or monotonic() - self._saved_at >= self.seconds

    def on_step_boundary(self, trainer: Trainer, is_due: bool, epoch_ended: bool) -> None:
        """Save if a save is due or the score has improved; called on all ranks with the same arguments.

        Raises:
            UserError: If there was a validation and an epoch, but the monitored metric was not logged.
        """
        has_new_score, self._has_new_score = self._has_new_score, False
        if has_new_score and epoch_ended and trainer.enable_validation:
            self._require_logged(trainer)
        is_best = has_new_score and self._improve(trainer.callback_metrics.get(str(self.monitor)))
        if has_new_score or is_due:
            for logger in trainer.loggers:  # before the checkpoint: logs may be ahead of it, never behind
                logger.write() if isinstance(logger, MetricsCSV) else logger.save()
        if is_due or is_best:
            self._save(trainer, is_best)

    def _require_logged(self, trainer: Trainer) -> None:
        metrics = sorted(trainer.callback_metrics)
        if self.monitor not in metrics:
            raise UserError(
                f"--checkpoints.monitor {self.monitor}: this metric is not logged; choose one of "
                f"{', '.join(metrics)}{did_you_mean(str(self.monitor), metrics)}"
            )

    def _improve(self, score: Tensor | None) -> bool:
        """Store the score if it is better than the best, and return whether it is; NaN never is."""
        if score is None:
            return False
        self.current_score = score.clone()
        if not Monitor.of(self).is_better(score.item()):
            return False
        self.best_model_score = score.detach().cpu().clone()
        self.best_k_models = {str(self._path("best")): self.best_model_score}
        return True

    def _save(self, trainer: Trainer, is_best: bool) -> None:
        best, last, previous = (self._path(name) for name in ("best", "last", "previous"))
        if trainer.is_global_zero and last.is_file():
            link_or_copy(last, previous)
        # The best first: if the process is killed in between, the last checkpoint does not claim an unsaved best score.
        trainer.save_checkpoint(best if is_best else last, weights_only=False)
        if is_best and isinstance(trainer.strategy.checkpoint_io, AsyncCheckpointIO):  # it is not written yet
            trainer.save_checkpoint(last, weights_only=False)
        elif is_best and trainer.is_global_zero:
            link_or_copy(best, last)
        self.last_model_path = str(last)
        if is_best:
            self.best_model_path = str(best)
        self._saved_at = monotonic()
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(proxy(self))

    def _path(self, name: str) -> Path:
        return Run(Path(str(self.dirpath)).parent).checkpoint(name)
