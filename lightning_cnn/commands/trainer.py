"""Lightning's Trainer, with one more word for its precision, and with less to do at every step."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

from lightning.fabric.plugins.precision.precision import _PRECISION_INPUT
from lightning.pytorch import Callback
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.profilers import PassThroughProfiler, Profiler

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
        for callback in self.callbacks:  # type: ignore[attr-defined]  # Lightning sets it from outside
            _drop_unused_hooks(callback)


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
