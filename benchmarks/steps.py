"""What `fit` tells the benchmark of its steps: how long they take, and what processes say to each other in one."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.device import now
from benchmarks.systems import WARM_UP_STEPS

#: The step whose traffic is counted: before the second one, DDP still has to say in which order gradients come.
_COUNTED = 2


class Traffic(TorchDispatchMode):
    """Counts what this process hands over to be sent, by any backend and from anywhere in torch, while it is entered.

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
    """Writes what the steps of the first epoch took, in JSON, from the first process.

    `step_seconds` is the mean of all steps but the first ones, which warm up, and the last one; `sent` has the bytes
    that a process sends in a step, by operation, and `parameters` the number of those trained; `threads` is how many a
    process computes in, and `precision` the one that the run chose.

    Args:
        file: Where to write.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)
        self.traffic = Traffic()
        self.counting = ExitStack()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start and stop to count and to time; all that there is to a step is between the starts of two."""
        if batch_idx == _COUNTED:
            self.counting.enter_context(self.traffic)
        elif batch_idx == _COUNTED + 1:
            self.counting.close()
        if batch_idx == WARM_UP_STEPS:
            self.started = now()
        elif batch_idx > WARM_UP_STEPS and trainer.is_last_batch and trainer.is_global_zero:
            seconds = (now() - self.started) / (batch_idx - WARM_UP_STEPS)
            self._write(trainer, pl_module, seconds)

    def _write(self, trainer: Trainer, pl_module: LightningModule, seconds: float) -> None:
        record = {
            "step_seconds": seconds,
            "sent": dict(self.traffic.sent),
            "parameters": sum(parameter.numel() for parameter in pl_module.parameters() if parameter.requires_grad),
            "threads": torch.get_num_threads(),
            "precision": trainer.precision,
        }
        self.file.write_text(json.dumps(record))
