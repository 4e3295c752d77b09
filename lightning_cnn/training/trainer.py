"""Lightning's Trainer, with one more word for its precision, less to do at every step, and with safe points."""

import signal
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.plugins.precision.precision import _PRECISION_INPUT
from lightning.pytorch import Callback
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.profilers import PassThroughProfiler, Profiler

from lightning_cnn.callbacks.checkpoints import Checkpoints
from lightning_cnn.callbacks.divergence import FiniteCheck
from lightning_cnn.training.checkpoint_io import CheckpointIO
from lightning_cnn.training.loops import CutValidation, FitLoop
from lightning_cnn.training.signals import Signals

#: What Lightning calls on every callback at every step.
_HOOKS_OF_A_STEP = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


class Trainer(LightningTrainer):
    """Lightning's Trainer.

    Args:
        precision: `auto` trains in bfloat16 where a trial shows that this is faster on this machine and comes to the
            same as float32, otherwise in float32; `validate` and `test` use the precision of the training. All others
            are Lightning's, for example `32-true`, `bf16-mixed` and `16-mixed`.
        limit_train_batches: Train on so many batches an epoch, or, below 1.0, on this share of them.
        limit_val_batches: Validate on so many batches, or, below 1.0, on this share of them.
        limit_test_batches: Test on so many batches, or, below 1.0, on this share of them.
        overfit_batches: Train and validate on the same few batches, or, below 1.0, on this share of them; 0 for all.
        profiler: As for Lightning's Trainer.
        kwargs: As for Lightning's Trainer.
    """

    def __init__(
        self,
        *,
        precision: _PRECISION_INPUT | Literal["auto"] | None = "auto",
        # Written `int | float`, a 1 is read as a number of batches; Lightning's `Union[int, float]` may have become, in
        # the cache of `typing`, a `Union[float, int]`, which reads it as a share.
        limit_train_batches: int | float | None = None,
        limit_val_batches: int | float | None = None,
        limit_test_batches: int | float | None = None,
        overfit_batches: int | float = 0.0,
        profiler: Profiler | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            precision=None if precision == "auto" else precision,
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            overfit_batches=overfit_batches,
            profiler=profiler or _NoProfiler(),
            **kwargs,
        )
        self.signals = Signals(self)
        self._signal_connector = self.signals
        self.fit_loop: FitLoop = FitLoop(self, self.fit_loop)
        if type(self.strategy.checkpoint_io) is TorchCheckpointIO:  # otherwise it is the user's, or the strategy's
            self.strategy.checkpoint_io = CheckpointIO()
        if not any(isinstance(callback, FiniteCheck) for callback in self.callbacks):  # type: ignore[attr-defined]
            self.callbacks.append(FiniteCheck())  # type: ignore[attr-defined]
        self.callbacks.append(CutValidation())  # type: ignore[attr-defined]  # Lightning sets it from outside
        for callback in self.callbacks:  # type: ignore[attr-defined]
            _drop_unused_hooks(callback)

    def save_checkpoint(
        self, filepath: str | Path, weights_only: bool | None = None, storage_options: Any = None
    ) -> None:
        """Save a checkpoint; weights are checked also where Lightning runs no callback hook, see `FiniteCheck`.

        Raises:
            DivergenceError: If a weight is NaN or infinite.
        """
        for callback in self.callbacks if weights_only else []:  # type: ignore[attr-defined]
            if isinstance(callback, FiniteCheck):
                callback.require_finite_weights(self, self.lightning_module.state_dict())
        super().save_checkpoint(filepath, weights_only, storage_options)

    def pass_safe_point(self, after_epoch: bool) -> None:
        """Save what is due, and end the run if a signal asks for it.

        Args:
            after_epoch: Whether an epoch has just ended; otherwise it was a step.

        Raises:
            Interrupted: If any of the processes has received a signal.
        """
        kept = [callback for callback in self.callbacks if isinstance(callback, Checkpoints)]  # type: ignore[attr-defined]
        number, is_time = self._highest(self.signals.received or 0, any(c.is_time(self) for c in kept))
        for checkpoints in kept:
            checkpoints.pass_safe_point(self, is_due=after_epoch or bool(number) or bool(is_time))
        if number:
            received = signal.Signals(number)
            self.signals.requeue(received)
            self.signals.end(received)

    def _highest(self, *numbers: int) -> tuple[int, ...]:
        """Return, for each of these, the highest that any of the processes has; all of them ask at the same time."""
        if self.world_size == 1:
            return numbers
        highest = torch.tensor(numbers, device=self.strategy.root_device)
        torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX)
        return tuple(highest.tolist())


class _NoProfiler(PassThroughProfiler):
    """Profiles nothing, sixty times a step, without making a context each time."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]  # no generator
        return self._nothing


def _drop_unused_hooks(callback: Callback) -> None:
    """Let Lightning pass over the hooks that do nothing: preparing to call one takes longer than most that do."""
    for hook in _HOOKS_OF_A_STEP:
        if getattr(getattr(callback, hook), "__func__", None) is getattr(Callback, hook):
            setattr(callback, hook, None)


def is_restoring(trainer: LightningTrainer) -> bool:
    """Whether the trainer is restoring a checkpoint: it keeps the content until all of it is restored."""
    return bool(trainer._checkpoint_connector._loaded_checkpoint)
