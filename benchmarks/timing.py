"""What `fit` tells the benchmark: a callback that reads the clock and writes a file when training is over."""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from benchmarks.device import now


class Timing(Callback):
    """Writes what a training took, in JSON.

    `seconds` runs from before the first batch is fetched until all that follows the last evaluation is done, writing
    the last checkpoint included; `seconds_with_pictures` runs on until the last picture is drawn; `first_step_at` is
    the time of day, in seconds, at which the first step was done; `peak_memory_bytes` is the most memory that the
    process has had.

    Args:
        file: Where to write.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self.train_images = 0
        self.record: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.started = now()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Count the images, and note when the first step was done."""
        self.train_images += len(batch[1])
        if "first_step_at" not in self.record:
            now()  # waits for the step to be done
            self.record["first_step_at"] = time.time()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock: this comes after `on_train_end` of all callbacks."""
        self.record |= {
            "seconds": now() - self.started,
            "train_images": self.train_images,
            "val_acc": trainer.callback_metrics["val/acc"].item(),
        }

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file: this comes after `on_fit_end` of all callbacks, which draw pictures."""
        if stage != "fit" or "seconds" not in self.record:  # a test, or the training was interrupted
            return
        # Linux counts in KiB, macOS in bytes.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        self.record |= {
            "seconds_with_pictures": now() - self.started,
            "peak_memory_bytes": peak,
            "gpu_peak_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        }
        self.file.write_text(json.dumps(self.record))
