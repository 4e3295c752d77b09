"""Lightning's loops with safe points: moments at which all of a step is done and nothing of the next has begun.

Lightning writes checkpoints in the middle of its bookkeeping and works out afterwards what may have been done, and what
must be done again. Here they are written at safe points only: after a step of the optimizer with all that it logs, and
after an epoch with its validation. Going on from there is going on as if nothing had happened. The one exception is a
validation that was cut short by a signal, which is done again from its beginning.
"""

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from lightning_cnn.training import rank_state as processes

if TYPE_CHECKING:
    from lightning.pytorch import Trainer as LightningTrainer

    from lightning_cnn.training.trainer import Trainer


class FitLoop(_FitLoop):
    """Epoch after epoch, with a safe point after each.

    Args:
        trainer: The trainer that it belongs to.
        like: The loop that it takes the place of.
    """

    trainer: "Trainer"

    def __init__(self, trainer: "Trainer", like: _FitLoop) -> None:
        super().__init__(trainer, like.min_epochs, like.max_epochs)
        self.epoch_loop: EpochLoop = EpochLoop(trainer, like.epoch_loop.min_steps, like.epoch_loop.max_steps)
        self._processes: list[dict[str, Any]] = []

    def run(self) -> None:
        """Train; signals wait for a safe point."""
        signals = self.trainer.signals
        with signals.held_back():
            super().run()
        if signals.received is not None:  # after the last safe point
            signals.end(signals.received)

    def on_advance_end(self) -> None:
        """End an epoch."""
        super().on_advance_end()
        self.trainer.pass_safe_point(after_epoch=True)

    def on_save_checkpoint(self) -> dict[str, Any]:
        """Return what else it takes to go on exactly."""
        state: dict[str, Any] = super().on_save_checkpoint()
        return {
            **state,
            "processes": processes.gather(self.trainer),
            "metrics": {name: value.clone() for name, value in self.trainer.callback_metrics.items()},
            "should_stop": self.trainer.should_stop,
        }

    def on_load_checkpoint(self, state_dict: dict[str, Any]) -> None:
        """Take it up again; the state of the processes waits until the first step, which nothing shall come before."""
        super().on_load_checkpoint(state_dict)
        self._processes = state_dict["processes"]
        self.trainer._logger_connector._callback_metrics.update(state_dict["metrics"])
        self.trainer.should_stop = state_dict["should_stop"]

    def load_state_dict(self, state_dict: dict[str, Any], prefix: str = "") -> None:
        """Go on from a safe point."""
        super().load_state_dict(state_dict, prefix)
        epochs = self.epoch_progress.current
        if epochs.completed == epochs.ready:  # between two; Lightning would forget the batches of the old one later
            self.epoch_loop.begin_anew()

    def take_up(self) -> None:
        """Give this process the state that it had, if the run goes on; then there is nothing to be done again."""
        if self._processes:
            processes.restore(self.trainer, self._processes)
            self._processes = []
            # Lightning's own setter says no where the number of steps is limited.
            _Loop.restarting.fset(self, False)  # type: ignore[attr-defined]


class EpochLoop(_TrainingEpochLoop):
    """Batch after batch, with a safe point after each step of the optimizer."""

    trainer: "Trainer"

    def __init__(self, trainer: "Trainer", min_steps: int | None, max_steps: int) -> None:
        super().__init__(trainer, min_steps, max_steps)
        self.validation_was_cut = False

    @property
    def done(self) -> bool:
        """Whether the epoch is over."""
        return not self.validation_was_cut and super().done

    def begin_anew(self) -> None:
        """Count from 0."""
        self.batch_progress.reset_on_run()
        self.scheduler_progress.reset_on_run()
        self.automatic_optimization.optim_progress.reset_on_run()
        self.val_loop.batch_progress.total.reset()

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        """Begin an epoch, or go on in the middle of one."""
        super().on_run_start(data_fetcher)
        self.trainer.fit_loop.take_up()

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Train on a batch, unless only the validation after it is due."""
        if self.validation_was_cut:
            self.validation_was_cut = False
        else:
            super().advance(data_fetcher)

    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        """Validate, if that is due, and look whether the run shall be saved or stopped."""
        super().on_advance_end(data_fetcher)
        if not self.done and not self._should_accumulate():  # at the end of an epoch, there is more to be done first
            self.trainer.pass_safe_point(after_epoch=False)

    def on_save_checkpoint(self) -> dict[str, Any]:
        """Return what else it takes to go on exactly."""
        return {**super().on_save_checkpoint(), "validation_was_cut": self.validation_was_cut}

    def on_load_checkpoint(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        super().on_load_checkpoint(state_dict)
        self.validation_was_cut = state_dict["validation_was_cut"]

    def _broadcast_sigterm_tensor(self) -> None:
        """Do nothing: the processes agree at safe points."""


class CutValidation(Callback):
    """Lets a signal cut a validation short: it may take longer than whoever sent the signal will wait."""

    def on_validation_start(self, trainer: "LightningTrainer", pl_module: LightningModule) -> None:
        """Note what was counted before."""
        self._before = deepcopy(trainer.fit_loop.epoch_loop.val_loop.batch_progress.total)

    def on_validation_batch_end(
        self,
        trainer: "LightningTrainer",
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop here, if that was asked for; several processes, which have to agree, wait for the safe point."""
        own: Trainer = trainer  # type: ignore[assignment]  # nobody else adds this callback
        if own.signals.received is None or own.world_size > 1 or own.sanity_checking or own.state.fn != "fit":
            return
        own.fit_loop.epoch_loop.validation_was_cut = True
        own.fit_loop.epoch_loop.val_loop.batch_progress.total = self._before
        own.fit_loop.epoch_loop.val_loop.batch_progress.reset_on_run()
        own.pass_safe_point(after_epoch=False)
