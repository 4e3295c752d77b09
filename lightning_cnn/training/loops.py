"""Lightning's loops with checkpoints at step boundaries, which make resuming exact.

Lightning saves checkpoints inside its hooks, before its progress counters are updated, and reconstructs the position
when it resumes. Here they are saved only after an optimizer step with its logging, or after an epoch with its
validation. A validation that a signal has interrupted is the exception: it is repeated from its beginning.
"""

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from lightning_cnn.training import rank_state

if TYPE_CHECKING:
    from lightning.pytorch import Trainer as LightningTrainer

    from lightning_cnn.training.trainer import Trainer


class FitLoop(_FitLoop):
    """The loop over epochs, with a step boundary after each.

    Args:
        trainer: The trainer of the loop.
        like: The loop that it replaces.
    """

    trainer: "Trainer"

    def __init__(self, trainer: "Trainer", like: _FitLoop) -> None:
        super().__init__(trainer, like.min_epochs, like.max_epochs)
        self.epoch_loop: EpochLoop = EpochLoop(trainer, like.epoch_loop.min_steps, like.epoch_loop.max_steps)
        self._rank_states: list[dict[str, Any]] = []

    def run(self) -> None:
        """Train; signals are handled at step boundaries."""
        signals = self.trainer.signals
        with signals.deferred():
            super().run()
        if signals.received is not None:  # after the last step boundary
            signals.end(signals.received)

    def on_advance_end(self) -> None:
        """Pass a step boundary after an epoch."""
        super().on_advance_end()
        self.trainer.on_step_boundary(epoch_ended=True)

    def on_save_checkpoint(self) -> dict[str, Any]:
        """Return Lightning's state, and what exact resuming needs beyond it."""
        state: dict[str, Any] = super().on_save_checkpoint()
        return {
            **state,
            "processes": rank_state.gather(self.trainer),
            "metrics": {name: value.clone() for name, value in self.trainer.callback_metrics.items()},
            "should_stop": self.trainer.should_stop,
        }

    def on_load_checkpoint(self, state_dict: dict[str, Any]) -> None:
        """Restore it; the states of the ranks are restored just before the first step."""
        super().on_load_checkpoint(state_dict)
        self._rank_states = state_dict["processes"]
        self.trainer.callback_metrics.update(state_dict["metrics"])
        self.trainer.should_stop = state_dict["should_stop"]

    def load_state_dict(self, state_dict: dict[str, Any], prefix: str = "") -> None:
        """Resume from a step boundary."""
        super().load_state_dict(state_dict, prefix)
        epochs = self.epoch_progress.current
        if epochs.completed == epochs.ready:  # between two epochs; Lightning resets these counters later
            self.epoch_loop.reset_progress()

    def restore_rank_state(self) -> None:
        """Restore the state of this rank if the run was resumed; nothing has to be repeated then."""
        if self._rank_states:
            rank_state.restore(self.trainer, self._rank_states)
            self._rank_states = []
            # The setter of the subclass refuses this where the number of steps is limited.
            _Loop.restarting.fset(self, False)  # type: ignore[attr-defined]


class EpochLoop(_TrainingEpochLoop):
    """The loop over batches, with a step boundary after each optimizer step."""

    trainer: "Trainer"
    validation_interrupted = False

    @property
    def done(self) -> bool:
        """Whether the epoch has ended."""
        return not self.validation_interrupted and super().done

    def reset_progress(self) -> None:
        """Reset the counters of batches and steps within an epoch."""
        self.batch_progress.reset_on_run()
        self.scheduler_progress.reset_on_run()
        self.automatic_optimization.optim_progress.reset_on_run()
        self.val_loop.batch_progress.total.reset()

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        """Start an epoch, or resume in the middle of one."""
        super().on_run_start(data_fetcher)
        self.trainer.fit_loop.restore_rank_state()

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Train on a batch, unless only the interrupted validation after it remains."""
        if self.validation_interrupted:
            self.validation_interrupted = False
        else:
            super().advance(data_fetcher)

    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        """Validate if that is due, and pass a step boundary."""
        super().on_advance_end(data_fetcher)
        if not self.done and not self._should_accumulate():  # the last step of an epoch is followed by its epoch end
            self.trainer.on_step_boundary(epoch_ended=False)

    def on_save_checkpoint(self) -> dict[str, Any]:
        """Return Lightning's state, and whether a validation was interrupted."""
        return {**super().on_save_checkpoint(), "validation_interrupted": self.validation_interrupted}

    def on_load_checkpoint(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        super().on_load_checkpoint(state_dict)
        self.validation_interrupted = state_dict["validation_interrupted"]

    def _broadcast_sigterm_tensor(self) -> None:
        """Do nothing: ranks exchange signals at step boundaries."""


class InterruptibleValidation(Callback):
    """Interrupts a validation after a signal: it may take longer than the grace period of the sender."""

    def on_validation_start(self, trainer: "LightningTrainer", pl_module: LightningModule) -> None:
        """Keep the progress from before the validation."""
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
        """Stop after a signal in a run of one process; several ranks wait for the next step boundary."""
        own: Trainer = trainer  # type: ignore[assignment]  # only our Trainer adds this callback
        if own.signals.received is None or own.world_size > 1 or own.sanity_checking or own.state.fn != "fit":
            return
        own.fit_loop.epoch_loop.validation_interrupted = True
        own.fit_loop.epoch_loop.val_loop.batch_progress.total = self._before
        own.fit_loop.epoch_loop.val_loop.batch_progress.reset_on_run()
        own.on_step_boundary(epoch_ended=False)
