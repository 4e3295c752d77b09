"""Callbacks that tests add to a run of several processes."""

import json
import os
import signal
import zlib
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class BatchRecorder(Callback):
    """Records for each rank which images it has trained on, in order, and whether it has read the files.

    Args:
        folder: Where to write `<rank>.json`.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.steps: list[list[int]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Record the checksums of the augmented images."""
        self.steps.append([zlib.crc32(image.numpy().tobytes()) for image in batch[0].cpu()])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file."""
        has_read = trainer.datamodule.raw is not None
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{trainer.global_rank}.json").write_text(
            json.dumps({"node": trainer.node_rank, "has_read": has_read, "steps": self.steps})
        )


class TimeLimit(Callback):
    """Sends SIGUSR1 to the last rank after four steps, as SLURM does before a time limit; not in a requeued job."""

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        """Send the signal."""
        is_due = trainer.global_step == 4 and "SLURM_RESTART_COUNT" not in os.environ
        if is_due and trainer.global_rank == trainer.world_size - 1:
            os.kill(os.getpid(), signal.SIGUSR1)
