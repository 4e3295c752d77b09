"""Lightning's Trainer with `precision="auto"`, a check for divergence, and checkpoints at step boundaries."""

import inspect
import signal
import traceback
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.plugins.precision.precision import _PRECISION_INPUT
from lightning.pytorch import Callback
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io.wrapper import _WrappingCheckpointIO
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities.argparse import _defaults_from_env_vars

from lightning_cnn.callbacks.checkpoints import Checkpoints
from lightning_cnn.callbacks.divergence import FiniteCheck
from lightning_cnn.training.averaging import WeightAverages
from lightning_cnn.training.callback_states import CallbackStates
from lightning_cnn.training.checkpoint_io import CheckpointIO
from lightning_cnn.training.loops import ExactResume, FitLoop
from lightning_cnn.training.signals import Signals


class Trainer(LightningTrainer):
    """Lightning's Trainer, which resumes exactly from the checkpoints of `Checkpoints`.

    Args:
        precision: `auto` trains in bfloat16 if the processor has instructions for it and a probe shows that it is
            faster and agrees with float32, otherwise in float32; `validate` and `test` use the precision of the
            training. All others are Lightning's, for example `32-true`, `bf16-mixed` and `16-mixed`. A
            `Trainer` that is built in Python takes `auto` as float32.
        limit_train_batches: Number (int) or share (float) of training batches per epoch and process.
        limit_val_batches: Number (int) or share (float) of validation batches per process.
        limit_test_batches: Number (int) or share (float) of test batches per process.
        overfit_batches: Number (int) or share (float) of batches on which to train and validate; 0 for all.
        kwargs: Arguments of Lightning's Trainer.
    """

    @_defaults_from_env_vars
    def __init__(
        self,
        *,
        precision: _PRECISION_INPUT | Literal["auto"] | None = "auto",
        # Repeated as `int | float`, with which 1 is parsed as a number of batches. The cache of `typing` may turn
        # Lightning's `Union[int, float]` into `Union[float, int]`, with which it is parsed as a share.
        limit_train_batches: int | float | None = None,
        limit_val_batches: int | float | None = None,
        limit_test_batches: int | float | None = None,
        overfit_batches: int | float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            precision=None if precision == "auto" else precision,
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            overfit_batches=overfit_batches,
            **kwargs,
        )
        if type(self.profiler) is PassThroughProfiler:  # type: ignore[has-type]  # Lightning's default
            self.profiler = _NoProfiler()
        self.signals = Signals(self)
        self._signal_connector = self.signals
        self.fit_loop: FitLoop = FitLoop(self, self.fit_loop)
        self.is_at_step_boundary = False
        self._replace_checkpoint_io(kwargs.get("plugins"))
        self.averages = WeightAverages()
        if self.barebones:  # the callbacks of the user alone
            return
        callbacks: list[Callback] = self.callbacks  # type: ignore[attr-defined]  # Lightning sets it from outside
        ours: list[Callback] = [self.averages, CallbackStates(), ExactResume()]
        if not any(isinstance(callback, FiniteCheck) for callback in callbacks):
            ours.append(FiniteCheck())
        # Callbacks that save checkpoints stay the last: what others do in the same hook belongs to the checkpoint.
        savers = [callback for callback in callbacks if isinstance(callback, Checkpoint)]
        callbacks[:] = [*(callback for callback in callbacks if callback not in savers), *ours, *savers]

    def _replace_checkpoint_io(self, plugins: Any) -> None:
        """Replace Lightning's checkpoint I/O by ours, also inside of another; that of a user or a strategy stays."""
        wrapper: Any = self.strategy.checkpoint_io
        is_given = any(plugin is wrapper for plugin in (plugins if isinstance(plugins, list) else [plugins]))
        if type(wrapper) is TorchCheckpointIO and not is_given:
            self.strategy.checkpoint_io = CheckpointIO()
        while isinstance(wrapper, _WrappingCheckpointIO):
            inner = wrapper.checkpoint_io
            if type(inner) is TorchCheckpointIO:
                wrapper._checkpoint_io = CheckpointIO()  # its setter takes one value only, and Lightning has set it
            wrapper = inner

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

    def on_step_boundary(self, epoch_ended: bool, is_last: bool = False) -> None:
        """Save checkpoints that are due, and end the run if a signal was received on any rank.

        Args:
            epoch_ended: Whether an epoch has just ended, and not only an optimizer step.
            is_last: Whether training stops here, inside an epoch.

        Raises:
            Interrupted: If a signal was received.
        """
        checkpoints = [callback for callback in self.callbacks if isinstance(callback, Checkpoints)]  # type: ignore[attr-defined]
        number, is_due = self._max_over_ranks(self.signals.received or 0, any(c.is_due(self) for c in checkpoints))
        must_save = epoch_ended or is_last or bool(number) or bool(is_due)
        self.is_at_step_boundary = True
        try:
            for callback in checkpoints:
                callback.on_step_boundary(self, must_save, epoch_ended)
        finally:
            self.is_at_step_boundary = False
        if number:
            received = signal.Signals(number)
            self.signals.requeue(received)
            self.signals.end(received)

    def _max_over_ranks(self, *numbers: int) -> tuple[int, ...]:
        """Return the maximum of each number over all ranks, which call this at the same step."""
        if self.world_size == 1:
            return numbers
        maxima = torch.tensor(numbers, device=self.strategy.root_device)
        torch.distributed.all_reduce(maxima, torch.distributed.ReduceOp.MAX)
        return tuple(maxima.tolist())


def _signature() -> inspect.Signature:
    """Return the parameters of Lightning's Trainer, with our own types and defaults where we have some."""
    of_lightning, own = (inspect.signature(cls.__init__) for cls in (LightningTrainer, Trainer))
    return of_lightning.replace(
        parameters=[own.parameters.get(name, value) for name, value in of_lightning.parameters.items()]
    )


# For the environment variables, for LightningCLI, and for users who ask for it.
Trainer.__init__.__signature__ = _signature()  # type: ignore[attr-defined]


def is_restoring(trainer: LightningTrainer) -> bool:
    """Whether the trainer is restoring a checkpoint: it keeps the content until all of it is restored."""
    return bool(trainer._checkpoint_connector._loaded_checkpoint)


def is_of_restored_state(error: Exception, trainer: LightningTrainer, first_step: int | None) -> bool:
    """Whether an error in the first epoch of a resumed run is one of the state that optimizers and loops restored.

    They take it as it is, and find out when they use it. Layers, and code of the user's, have no part in this.

    Args:
        error: The error.
        trainer: The trainer.
        first_step: The step from which the run was resumed; None if it was not.
    """
    if first_step is None or trainer.global_step - first_step > trainer.num_training_batches:
        return False
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    is_of_state = any(place in raised_in for place in ("/torch/optim/", "/lightning/", "/lightning_cnn/training/"))
    return is_of_state and not isinstance(error, torch.OutOfMemoryError)


class _NoProfiler(PassThroughProfiler):
    """Profiles nothing, without building a context manager for each of some 60 calls per step.

    Kept because it saves more than 3 % of an epoch of `MLP`: 3.9 µs per call become 0.6 µs, or 0.2 ms of a step
    of 7 ms on a busy core.
    """

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]  # no generator
        return self._nothing
