"""A callback that writes down what each process has seen."""

import json
import os
import signal
import zlib
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Witness(Callback):
    """Writes down of each process which images it has trained on, in order, and whether it has read the files.

    Args:
        folder: Where to write `<rank>.json`.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.steps: list[list[int]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note the checksums of the images, as they are after augmentation."""
        self.steps.append([zlib.crc32(image.numpy().tobytes()) for image in batch[0].cpu()])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write."""
        has_read = trainer.datamodule.raw is not None
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{trainer.global_rank}.json").write_text(
            json.dumps({"node": trainer.node_rank, "has_read": has_read, "steps": self.steps})
        )


class TimeLimit(Callback):
    """Sends the last process, after four steps, what SLURM sends before a time limit; not in a job started anew."""

    def on_train_batch_end(self, trainer: Trainer, *arguments: Any) -> None:
        """Send the signal."""
        is_due = trainer.global_step == 4 and "SLURM_RESTART_COUNT" not in os.environ
        if is_due and trainer.global_rank == trainer.world_size - 1:
            os.kill(os.getpid(), signal.SIGUSR1)
