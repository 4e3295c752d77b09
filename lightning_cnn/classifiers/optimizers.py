"""How `ImageClassifier` builds the optimizer and the learning-rate schedule that it was given."""

import math
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, ModelCheckpoint
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import LRSchedulerConfig, LRSchedulerConfigType, OptimizerLRScheduler
from torch.nn import Parameter
from torch.optim import LBFGS, Optimizer
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR, ReduceLROnPlateau

from lightning_cnn.errors import UserError

#: Schedules that are stepped after every step of the optimizer; all others are stepped after every epoch.
_PER_STEP = (OneCycleLR, CyclicLR)


def build(
    optimizer_callable: OptimizerCallable,
    scheduler_callable: LRSchedulerCallable | None,
    parameters: Iterable[Parameter],
    trainer: Trainer | None,
    lr: float | None = None,
) -> OptimizerLRScheduler:
    """Build the optimizer, and the schedule if there is one, as `LightningModule.configure_optimizers` returns them.

    Without a trainer, a schedule must not leave `total_steps` open.

    Args:
        optimizer_callable: Builds the optimizer from the parameters.
        scheduler_callable: Builds the schedule from the optimizer.
        parameters: The parameters to train.
        trainer: The trainer, if there is one.
        lr: Learning rate in place of that of the optimizer.

    Raises:
        UserError: If one of them raises an error because of its arguments, now or in its first step.
    """
    parameters = list(parameters)
    open_values = open_arguments(scheduler_callable, trainer)

    def both(parameters: list[Parameter]) -> tuple[Optimizer, Any]:
        optimizer = optimizer_callable(parameters)
        if isinstance(optimizer, LBFGS):
            _make_contiguous(parameters)
        for group in optimizer.param_groups if lr is not None else []:
            group["lr"] = lr
        return optimizer, scheduler_callable and scheduler_callable(optimizer, **open_values)

    try:
        _try_step(*both(copies := _copies(parameters)), copies)
        optimizer, scheduler = both(parameters)
    except ZeroDivisionError as error:
        if "total_steps" not in open_values:
            raise UserError(f"invalid arguments of the schedule, in its first step: {error}") from error
        raise UserError(
            f"this schedule cannot have {open_values['total_steps']} steps; train for more epochs or "
            "batches, or leave it out with --model.scheduler null"
        ) from error
    except (ValueError, TypeError, RuntimeError, AttributeError, AssertionError) as error:
        raise UserError(f"invalid arguments of the optimizer or its schedule: {error}") from error
    _fuse(optimizer)
    if scheduler is None:
        return optimizer
    if isinstance(scheduler, ReduceLROnPlateau):
        return {"optimizer": optimizer, "lr_scheduler": _on_plateau(scheduler, trainer)}
    interval = "step" if any(isinstance(part, _PER_STEP) for part in _parts(scheduler)) else "epoch"
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}


def _make_contiguous(parameters: Iterable[Parameter]) -> None:
    """Take `channels_last` from parameters: LBFGS flattens their gradients with `view`, which that does not allow."""
    for parameter in parameters:
        parameter.data = parameter.data.contiguous()
        if parameter.grad is not None:
            parameter.grad = parameter.grad.contiguous()


def _copies(parameters: Iterable[Parameter]) -> list[Parameter]:
    """Return copies of a few parameters, one with each number of dimensions, with gradients of zero."""
    copies = [Parameter(p.detach().clone()) for p in {p.ndim: p for p in parameters if p.requires_grad}.values()]
    for copy in copies:
        copy.grad = torch.zeros_like(copy)
    return copies


def _try_step(optimizer: Optimizer, scheduler: Any, copies: list[Parameter]) -> None:
    """Use a throw-away optimizer and its schedule, which may raise only then because of their arguments."""
    if {id(p) for group in optimizer.param_groups for p in group["params"]} != {id(copy) for copy in copies}:
        return  # it has not been built from what it was given
    optimizer.step(lambda: 0.0)  # a closure, for LBFGS
    with warnings.catch_warnings(action="ignore"):
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(0.0)
        elif scheduler is not None:
            scheduler.step()
    if scheduler is not None:
        scheduler.state_dict()  # which checkpoints contain


def _parts(scheduler: Any) -> Iterator[Any]:
    """Yield a schedule, and those that it is made of if it is a `SequentialLR` or `ChainedScheduler`."""
    yield scheduler
    for part in getattr(scheduler, "_schedulers", []):  # torch has no public name for them
        yield from _parts(part)


def set_base_lr(configs: Iterable[LRSchedulerConfig], lr: float) -> None:
    """Set the learning rate from which schedules compute those of later epochs.

    Raises:
        UserError: If a schedule has a range of learning rates of its own.
    """
    for part in (part for config in configs for part in _parts(config.scheduler)):
        if isinstance(part, _PER_STEP):
            raise UserError(
                f"a learning rate of {lr:g} would not be used, because {type(part).__name__} has its own; set its "
                "max_lr, or leave it out with --model.scheduler null"
            )
        part.base_lrs = [lr] * len(part.optimizer.param_groups)


def _on_plateau(scheduler: ReduceLROnPlateau, trainer: Trainer | None) -> LRSchedulerConfigType:
    """Return which metric Lightning is to monitor for the schedule, and when.

    Only the subclass of LightningCLI names a metric. For torch's own, it is that of the checkpoints if their mode is
    the same; otherwise the loss or, to be maximised, the accuracy.
    """
    usual = "val/loss" if scheduler.mode == "min" else "val/acc"
    callbacks = [] if trainer is None else trainer.checkpoint_callbacks
    same = (c.monitor for c in callbacks if isinstance(c, ModelCheckpoint) and c.monitor and c.mode == scheduler.mode)
    monitor = getattr(scheduler, "monitor", None) or next(same, usual)
    if trainer is None or not monitor.startswith("val"):
        return {"scheduler": scheduler, "monitor": monitor}
    # Only in epochs with a validation. If validations are counted in batches instead, an epoch may have none.
    every = trainer.check_val_every_n_epoch
    return {"scheduler": scheduler, "monitor": monitor, "frequency": every or 1, "strict": every is not None}


def open_arguments(scheduler_callable: LRSchedulerCallable | None, trainer: Trainer | None) -> dict[str, int]:
    """Return `total_steps` of the run for a schedule that leaves it open; otherwise nothing.

    Raises:
        UserError: If the run has no fixed number of steps.
    """
    arguments = getattr(scheduler_callable, "keywords", {})  # of a functools.partial
    if "total_steps" not in arguments or arguments["total_steps"] or arguments.get("epochs"):
        return {}
    steps = _total_steps(trainer)
    if steps == math.inf:
        raise UserError("the schedule needs a length: set --model.scheduler.total_steps or --trainer.max_epochs")
    return {"total_steps": int(steps)}


def require_same_total_steps(
    states: list[dict[str, Any]], scheduler_callable: LRSchedulerCallable | None, trainer: Trainer
) -> None:
    """Refuse to resume a schedule that was built for another number of steps.

    Args:
        states: State dicts of the schedules in the checkpoint.
        scheduler_callable: The schedule of this run.
        trainer: The trainer of this run.

    Raises:
        UserError: If the numbers differ.
    """
    steps = open_arguments(scheduler_callable, trainer).get("total_steps")
    for state in states if steps is not None else []:
        if state.get("total_steps", steps) != steps:
            raise UserError(
                f"the schedule in the checkpoint has {state['total_steps']} steps, but this run has {steps}; "
                "resume with the same number of epochs and the same batch size, or start a new run"
            )


def _total_steps(trainer: Trainer | None) -> float:
    """Return the optimizer steps of the run; infinite if there is no end."""
    if trainer is None:
        return math.inf
    steps = trainer.estimated_stepping_batches  # as if batches were accumulated in all epochs as they are now
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it from outside
    for callback in callbacks:
        epochs = trainer.max_epochs or -1
        if isinstance(callback, GradientAccumulationScheduler) and epochs > 0:
            factors = map(callback.get_accumulate_grad_batches, range(epochs))
            planned = sum(math.ceil(trainer.num_training_batches / factor) for factor in factors)
            steps = planned if trainer.max_steps == -1 else min(planned, trainer.max_steps)
    return steps


def _fuse(optimizer: Optimizer) -> None:
    """Use the fused implementation of the optimizer where there is one, unless an implementation was chosen."""
    if optimizer.defaults.get("fused", False) is None and optimizer.defaults["foreach"] is None:
        for group in optimizer.param_groups:
            group["fused"] = True
