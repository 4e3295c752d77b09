"""The processes of a run: what they agree on, and what each of them has of its own when a checkpoint is written.

That is random numbers to come, and metrics of an epoch that is not over.
"""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision

from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.errors import UserError


class Agreement(Callback):
    """Lets all processes begin at the same step, in the same precision, and each with random numbers of its own.

    Args:
        first_step: Where the run goes on, as far as this process knows; None for a new run.
    """

    def __init__(self, first_step: int | None) -> None:
        self.first_step = first_step

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare where to begin, and take over the precision that the first process has tried.

        Raises:
            UserError: If the processes would not go on from the same step.
        """
        if trainer.world_size == 1:
            return
        steps: list[int | None] = [None] * trainer.world_size
        torch.distributed.all_gather_object(steps, self.first_step)
        if len(set(steps)) > 1:
            raise UserError(
                f"the processes would begin at steps {', '.join(str(step or 0) for step in steps)}, because they do "
                "not see the same checkpoints; give a folder that all machines share with --trainer.default_root_dir"
            )
        chosen = trainer.strategy.broadcast(trainer.precision)
        if chosen == "bf16-mixed" and trainer.precision != chosen:
            trainer.strategy.precision_plugin = MixedPrecision("bf16-mixed", trainer.strategy.root_device.type)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let no two processes drop out the same units; a run that goes on takes up its random states after this."""
        if trainer.global_rank:
            torch.manual_seed(
                np.random.SeedSequence((torch.initial_seed(), trainer.global_rank)).generate_state(1).item()
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let all measure the network that is saved: batch normalisation gathers other statistics in each process."""
        if trainer.world_size > 1:
            for buffer in pl_module.buffers():
                torch.distributed.broadcast(buffer, src=0)


def gather(trainer: Trainer) -> list[dict[str, Any]]:
    """Return the state of every process, in the order of their ranks, as plain types and tensors."""
    mine = {"random": random_states(trainer.strategy.root_device), "metrics": None}
    if isinstance(trainer.lightning_module, ImageClassifier):
        mine["metrics"] = trainer.lightning_module.train_metrics.state()
    if trainer.world_size == 1:
        return [mine]
    states: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(states, mine)
    return states


def restore(trainer: Trainer, states: list[dict[str, Any]]) -> None:
    """Give this process the state that it had, or what comes closest if there were more or fewer of them.

    Random states then are those of another process; the metrics stay whole, because the first process takes all.
    """
    rank, same = trainer.global_rank, len(states) == trainer.world_size
    set_random_states(states[rank % len(states)]["random"], trainer.strategy.root_device)
    if not isinstance(trainer.lightning_module, ImageClassifier):
        return
    for of_process in [states[rank]] if same else states if rank == 0 else []:
        if of_process["metrics"] is not None:
            trainer.lightning_module.train_metrics.merge(of_process["metrics"])


def random_states(device: torch.device) -> dict[str, Any]:
    """Return the states of all random number generators of this process, those of its device included."""
    version, internal, gauss = random.getstate()
    name, keys, *rest = np.random.get_state(legacy=True)
    states = {
        "python": [version, list(internal), gauss],
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Set all random number generators, as far as `states`, from `random_states`, has them."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])
