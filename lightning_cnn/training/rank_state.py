"""Synchronisation of the ranks of a run, and the state that each rank has of its own in a checkpoint.

That state is the random number generators and the metrics of the current epoch.
"""

import random
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor

from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.classifiers.metrics import StageMetrics
from lightning_cnn.errors import UserError


class RankSynchronisation(Callback):
    """Starts all ranks at the same step and in the same precision, each with its own random seed.

    Args:
        first_step: The step from which this rank resumes; None for a new run.
    """

    def __init__(self, first_step: int | None) -> None:
        self.first_step = first_step

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare the first step, and use the precision that rank 0 has chosen.

        Raises:
            UserError: If the ranks would start at different steps.
        """
        if trainer.world_size == 1:
            return
        steps: list[int | None] = [None] * trainer.world_size
        torch.distributed.all_gather_object(steps, self.first_step)
        if len(set(steps)) > 1:
            raise UserError(
                f"the processes would start at steps {', '.join(str(step or 0) for step in steps)}, because they do "
                "not see the same checkpoints; set --trainer.default_root_dir to a folder that all machines share"
            )
        chosen = trainer.strategy.broadcast(trainer.precision)
        if chosen == "bf16-mixed" and trainer.precision != chosen:
            trainer.strategy.precision_plugin = MixedPrecision("bf16-mixed", trainer.strategy.root_device.type)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed each rank differently, for example for dropout; a resumed run restores its states after this."""
        if trainer.global_rank:
            torch.manual_seed(
                np.random.SeedSequence((torch.initial_seed(), trainer.global_rank)).generate_state(1).item()
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the network that is saved: batch normalisation has other statistics on each rank."""
        if trainer.world_size > 1:
            for buffer in pl_module.buffers():
                torch.distributed.broadcast(buffer, src=0)


def gather(trainer: Trainer) -> list[dict[str, Any]]:
    """Return the states of all ranks, in their order, as plain types and tensors."""
    mine = {"random": random_states(trainer.strategy.root_device), "metrics": None}
    if isinstance(trainer.lightning_module, ImageClassifier):
        mine["metrics"] = trainer.lightning_module.train_metrics.state()
    if trainer.world_size == 1:
        return [mine]
    states: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(states, mine)
    return states


def restore(trainer: Trainer, states: list[dict[str, Any]], has_metrics: bool = True) -> None:
    """Restore the state of this rank, its metrics only if the checkpoint has those of the current epoch.

    With another number of ranks, random states are reused in turn, and rank 0 gets the metrics of all.
    """
    rank, same = trainer.global_rank, len(states) == trainer.world_size
    set_random_states(states[rank % len(states)]["random"], trainer.strategy.root_device)
    if not has_metrics or not isinstance(trainer.lightning_module, ImageClassifier):
        return
    for of_rank in [states[rank]] if same else states if rank == 0 else []:
        if of_rank["metrics"] is not None:
            merge(trainer.lightning_module.train_metrics, of_rank["metrics"])


def merge(metrics: StageMetrics, state: dict[str, Any]) -> None:
    """Add the batches of a state of such metrics.

    Args:
        metrics: The metrics; they may have others than the state.
        state: What `StageMetrics.state` has returned.
    """
    device = metrics.loss.device
    states = {"loss": state["loss"], "acc": state["acc"], **state.get("others", {})}
    for name, metric in metrics.named.items():
        if name not in states:  # it was added for the resumed part of the run
            continue
        content = move_data_to_device(states[name], device)
        if metric.update_called:
            metric.merge_state(content)
        else:  # as it was: merging takes no state that is a mean, nor a metric that does not say how it is updated
            for key, value in content.items():
                setattr(metric, key, value)
        metric._update_count += 1  # torchmetrics 1.9 counts neither; `compute` would warn
    metrics.pending_losses += move_data_to_device([*map(tuple, state["losses"])], device)


def random_states(device: torch.device) -> dict[str, Any]:
    """Return the states of all random number generators of this process and its device."""
    version, internal, gauss = random.getstate()
    name, keys, *rest = np.random.get_state(legacy=True)
    states = {
        "python": [version, list(internal), gauss],
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "torch": _numbers(torch.get_rng_state()),
    }
    if device.type != "cpu":
        states[device.type] = _numbers(torch.get_device_module(device).get_rng_state())
    return states


def set_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Set all random number generators that are in `states`, as returned by `random_states`."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(_bytes(states["torch"]))
    if device.type != "cpu" and device.type in states:
        torch.get_device_module(device).set_rng_state(_bytes(states[device.type]))


def _numbers(state: Tensor) -> list[int]:
    """Return the bytes of a state as numbers: like the other states, they can be compared, and sent between ranks."""
    numbers: list[int] = state.view(torch.int32).tolist()
    return numbers


def _bytes(numbers: list[int]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int32).view(torch.uint8)
