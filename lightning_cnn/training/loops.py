"""Lightning's loops with checkpoints at step boundaries, which make resuming exact.

Lightning saves checkpoints inside its hooks, before its progress counters are updated, and reconstructs the position
when it resumes. Here they are saved only after an optimizer step with its logging, or after an epoch with its
validation. A validation that a signal has interrupted is the exception: it is repeated from its beginning.
"""

from collections import OrderedDict
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins.precision import DoublePrecision
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.data.batches import ShuffledLoader
from lightning_cnn.training import rank_state
from lightning_cnn.training.hooks import without_empty_hooks

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
        self.resumed: dict[str, Any] = {}  # what `ExactResume` has found in the checkpoint
        self._resumes_inside_epoch = False

    def run(self) -> None:
        """Train; signals are handled at step boundaries."""
        if self._loaded_from_state_dict:
            # A schedule may have asked for the number of steps, and so for the loader, before its position was loaded.
            self._combined_loader = None
        signals = self.trainer.signals
        with signals.deferred(), without_empty_hooks(self.trainer.callbacks):  # type: ignore[attr-defined]
            super().run()
            self.trainer.averages.finish(self.trainer, self.trainer.lightning_module)
        self.resumed, self._resumes_inside_epoch = {}, False  # if nothing was left to train
        if signals.received is not None:  # after the last step boundary
            signals.end(signals.received)

    @property
    def done(self) -> bool:
        """Whether training has ended; an epoch in which it was resumed is ended first."""
        return not self._resumes_inside_epoch and super().done

    def on_advance_end(self) -> None:
        """Pass a step boundary after an epoch, unless training stopped inside it: it resumes from there."""
        # The metrics of an incomplete epoch belong to the next step: a run that resumes there drops them.
        is_incomplete = not self.epoch_loop.is_complete
        self.epoch_loop._batches_that_stepped += is_incomplete
        super().on_advance_end()
        self.epoch_loop._batches_that_stepped -= is_incomplete
        self.retract_early_stop()
        if not is_incomplete:
            self.trainer.on_step_boundary(epoch_ended=True)

    def retract_early_stop(self) -> None:
        """Let `EarlyStopping` decide again, if the minimum of epochs or steps is not reached yet.

        Lightning keeps its first decision, and stops at the minimum even right after an improvement.
        """
        stoppers = [callback for callback in self.trainer.callbacks if isinstance(callback, EarlyStopping)]  # type: ignore[attr-defined]
        if not self._can_stop_early and any(stopper.wait_count >= stopper.patience for stopper in stoppers):
            self.trainer.should_stop = False

    def load_state_dict(self, state_dict: dict[str, Any], prefix: str = "") -> None:
        """Resume from a step boundary, or as Lightning does from where a callback of its own has saved."""
        super().load_state_dict(state_dict, prefix)
        self.trainer.callback_metrics.update(self.resumed.get("metrics", {}))
        if not self._is_exact:
            if self.epoch_loop.global_step:  # not for what the Tuner has saved before training
                why = "a callback has saved it inside a step" if self.resumed else "it has no random states"
                rank_zero_info(f"Resume may not be bit-exact: the checkpoint is not one of `Checkpoints`, {why}")
            return
        self.trainer.should_stop |= self.resumed["should_stop"]  # a `Timer` may have decided already
        self.epoch_loop.validation_interrupted = self.resumed["validation_interrupted"]
        epochs = self.epoch_progress.current
        self._resumes_inside_epoch = epochs.completed < epochs.ready
        if not self._resumes_inside_epoch:  # between two epochs; Lightning resets these counters later
            self.epoch_loop.reset_progress()

    def _load_combined_loader_states(self) -> None:
        """Restore the position of the loader; Lightning does it inside an epoch only, but ours also has a seed."""
        super()._load_combined_loader_states()
        loaders = [] if self._combined_loader is None else self._combined_loader.flattened
        if self._combined_loader_states_to_load and all(isinstance(loader, ShuffledLoader) for loader in loaders):
            for loader, state in zip(loaders, self._combined_loader_states_to_load, strict=True):
                loader.load_state_dict(state)
            self._combined_loader_states_to_load = []

    def restore_rank_state(self) -> None:
        """Restore the state of this rank if the run was resumed; from a step boundary, nothing has to be repeated."""
        self._resumes_inside_epoch = False
        if self.resumed:
            has_metrics = self._is_exact or self.restarted_mid_epoch  # otherwise, those of an epoch that has ended
            rank_state.restore(self.trainer, self.resumed["ranks"], has_metrics)
            if self._is_exact:
                # The setter of the subclass refuses this where the number of steps is limited.
                _Loop.restarting.fset(self, False)  # type: ignore[attr-defined]
            self.resumed = {}

    @property
    def _is_exact(self) -> bool:
        """Whether the run is resumed from a step boundary."""
        return bool(self.resumed.get("at_step_boundary"))


class EpochLoop(_TrainingEpochLoop):
    """The loop over batches, with a step boundary after each optimizer step."""

    trainer: "Trainer"
    validation_interrupted = False

    @property
    def done(self) -> bool:
        """Whether the epoch has ended; accumulated gradients are used before it stops."""
        if self.validation_interrupted or (self.trainer.should_stop and self._should_accumulate()):
            return False
        return super().done

    @property
    def is_complete(self) -> bool:
        """Whether all batches of the epoch were used."""
        return self._num_ready_batches_reached()

    def reset_progress(self) -> None:
        """Reset the counters of batches and steps within an epoch."""
        self.batch_progress.reset_on_run()
        self.scheduler_progress.reset_on_run()
        self.automatic_optimization.optim_progress.reset_on_run()
        self.val_loop.batch_progress.total.reset()

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        """Start an epoch, or resume in the middle of one."""
        super().on_run_start(data_fetcher)
        training_step = self.trainer.lightning_module.training_step
        self._takes_batch_idx = is_param_in_hook_signature(training_step, "batch_idx", min_args=2)
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
        self.trainer.fit_loop.retract_early_stop()
        # The last step of an epoch is followed by its epoch end. If training stops before, it resumes from here.
        if not self.is_complete and not self._should_accumulate():
            self.trainer.on_step_boundary(epoch_ended=False, is_last=self.done)

    def _build_kwargs(self, kwargs: OrderedDict[str, Any], batch: Any, batch_idx: int) -> OrderedDict[str, Any]:
        """Return the arguments of `training_step`; Lightning inspects its signature anew for every batch."""
        kwargs["batch"] = batch
        if self._takes_batch_idx:
            kwargs["batch_idx"] = batch_idx
        return kwargs

    def _should_check_val_fx(self, data_fetcher: _DataFetcher) -> bool:
        """Whether to validate now; before a stop, when accumulated gradients have been used."""
        is_stopping = self.trainer.should_stop and self._should_accumulate()
        return not is_stopping and super()._should_check_val_fx(data_fetcher)

    def _broadcast_sigterm_tensor(self) -> None:
        """Do nothing: ranks exchange signals at step boundaries."""


# Lightning's profilers name their records after these classes.
FitLoop.__name__, EpochLoop.__name__ = _FitLoop.__name__, _TrainingEpochLoop.__name__


class ExactResume(Callback):
    """Stores what exact resuming needs beyond the state of Lightning's loops, and prepares the loops to use it."""

    def setup(self, trainer: "LightningTrainer", pl_module: LightningModule, stage: str) -> None:
        """Convert the weights before a checkpoint is loaded into them; Lightning does it after that."""
        if isinstance(trainer.precision_plugin, DoublePrecision):
            trainer.precision_plugin.convert_module(pl_module)
        self._patience = [(c, c.patience) for c in trainer.callbacks if isinstance(c, EarlyStopping)]  # type: ignore[attr-defined]

    def on_save_checkpoint(
        self, trainer: "LightningTrainer", pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states of all ranks, the metrics, and whether training is about to stop."""
        own: Trainer = trainer  # type: ignore[assignment]  # only our Trainer adds this callback
        checkpoint["loops"][checkpoints.RESUME_KEY] = {
            "at_step_boundary": own.is_at_step_boundary,
            "ranks": rank_state.gather(own),
            "metrics": {name: value.clone() for name, value in own.callback_metrics.items()},
            "should_stop": own.should_stop,
            "validation_interrupted": own.fit_loop.epoch_loop.validation_interrupted,
        }

    def on_load_checkpoint(
        self, trainer: "LightningTrainer", pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Pass it to the loops, which are restored later."""
        own: Trainer = trainer  # type: ignore[assignment]  # only our Trainer adds this callback
        if own.state.fn == "fit":
            own.fit_loop.resumed = checkpoint.get("loops", {}).get(checkpoints.RESUME_KEY, {})

    def on_train_start(self, trainer: "LightningTrainer", pl_module: LightningModule) -> None:
        """Set the patience that was given; Lightning sets that of the checkpoint."""
        for callback, patience in self._patience:
            callback.patience = patience

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
        """Stop after a signal: a validation may take longer than the grace period of the sender.

        Several ranks wait for the next step boundary.
        """
        own: Trainer = trainer  # type: ignore[assignment]  # only our Trainer adds this callback
        if own.signals.received is None or own.world_size > 1 or own.sanity_checking or own.state.fn != "fit":
            return
        own.fit_loop.epoch_loop.validation_interrupted = True
        own.fit_loop.epoch_loop.val_loop.batch_progress.total = self._before
        own.fit_loop.epoch_loop.val_loop.batch_progress.reset_on_run()
        own.on_step_boundary(epoch_ended=False)
