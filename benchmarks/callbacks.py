"""Callbacks for a `fit` that is measured: each writes what it has measured into a JSON file."""

import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.device import now
from benchmarks.systems import WARM_UP_STEPS

#: The step whose communication is counted: DDP exchanges the order of its gradients before the second step.
_COUNTED_STEP = 2


class Timing(Callback):
    """Measures a training.

    `seconds` runs from before the first batch to after the last validation, with all checkpoints written;
    `seconds_with_plots` also includes the final plots; `first_step_at` is the end of the first step, in seconds since
    the Unix epoch; `peak_memory_bytes` is the largest memory of the process.

    Args:
        file: The file to write.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self.train_images = 0
        self.record: dict[str, float | str] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.started = now()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Count the images, and record the end of the first step."""
        self.train_images += len(batch[1])
        if "first_step_at" not in self.record:
            now()  # waits for the GPU
            self.record["first_step_at"] = time.time()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock: Lightning calls this after `on_train_end` of all callbacks."""
        self.record |= {
            "seconds": now() - self.started,
            "train_images": self.train_images,
            "val_acc": trainer.callback_metrics["val/acc"].item(),
            "precision": trainer.precision,
            "threads": torch.get_num_threads(),
        }

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file: Lightning calls this after `on_fit_end` of all callbacks, which draws plots."""
        if stage != "fit" or "seconds" not in self.record:  # a test, or an interrupted training
            return
        # Linux counts in KiB, macOS in bytes.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        self.record |= {
            "seconds_with_plots": now() - self.started,
            "peak_memory_bytes": peak,
            "gpu_peak_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        }
        self.file.write_text(json.dumps(self.record))


class Traffic(TorchDispatchMode):
    """Counts the bytes that this process passes to `torch.distributed`, in any backend.

    Attributes:
        sent: The bytes by operation, for example `allreduce_`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # has no types
        self.sent: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.namespace == "c10d":
            tensors = (leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor))
            self.sent[func.overloadpacket.__name__] += sum(tensor.nbytes for tensor in tensors)
        return func(*args, **(kwargs or {}))


class Steps(Callback):
    """Measures the steps of the first epoch; rank zero writes.

    `step_seconds` is the mean over all steps but the first few, which warm up, and the last one; `sent` has the bytes
    that a process sends in a step, by operation; `parameters` is the number of trained parameters, `threads` the
    number of threads of a process.

    Args:
        file: The file to write.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self.traffic = Traffic()
        self.counting = ExitStack()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count and time whole steps, from the start of one to the start of the next."""
        if batch_idx == _COUNTED_STEP:
            self.counting.enter_context(self.traffic)
        elif batch_idx == _COUNTED_STEP + 1:
            self.counting.close()
        if batch_idx == WARM_UP_STEPS:
            self.started = now()
        elif batch_idx > WARM_UP_STEPS and trainer.is_last_batch and trainer.is_global_zero:
            record = {
                "step_seconds": (now() - self.started) / (batch_idx - WARM_UP_STEPS),
                "sent": dict(self.traffic.sent),
                "parameters": sum(parameter.numel() for parameter in pl_module.parameters() if parameter.requires_grad),
                "threads": torch.get_num_threads(),
                "precision": trainer.precision,
            }
            self.file.write_text(json.dumps(record))
