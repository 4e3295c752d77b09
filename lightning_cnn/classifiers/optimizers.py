"""How `ImageClassifier` builds the optimizer and the learning-rate schedule that it was given."""

import math
from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from lightning_cnn.errors import UserError

#: Schedules that are stepped after every batch; all others are stepped after every epoch.
_PER_STEP = (OneCycleLR, CyclicLR)


def build(
    optimizer_callable: OptimizerCallable,
    scheduler_callable: LRSchedulerCallable | None,
    parameters: Iterable[Parameter],
    trainer: Trainer | None,
) -> OptimizerLRScheduler:
    """Build the optimizer, and the schedule if there is one, as `LightningModule.configure_optimizers` returns them.

    Without a trainer, a schedule must not leave `total_steps` open.

    Raises:
        UserError: If one of them raises an error because of its arguments.
    """
    try:
        optimizer = optimizer_callable(parameters)
        scheduler = scheduler_callable and scheduler_callable(optimizer, **open_arguments(scheduler_callable, trainer))
    except (ValueError, TypeError) as error:
        raise UserError(f"invalid arguments of the optimizer or its schedule: {error}") from error
    except ZeroDivisionError as error:
        raise UserError(
            f"{_total_steps(trainer)} steps are too few for this schedule; train for more epochs or "
            "batches, or leave it out with --model.scheduler null"
        ) from error
    _fuse(optimizer)
    if scheduler is None:
        return optimizer
    if isinstance(scheduler, ReduceLROnPlateau):
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": scheduler.monitor}}
    interval = "step" if isinstance(scheduler, _PER_STEP) else "epoch"
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}


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
    return math.inf if trainer is None else trainer.estimated_stepping_batches


def _fuse(optimizer: Optimizer) -> None:
    """Use the fused implementation of the optimizer where there is one, unless an implementation was chosen."""
    if optimizer.defaults.get("fused", False) is None and optimizer.defaults["foreach"] is None:
        for group in optimizer.param_groups:
            group["fused"] = True
