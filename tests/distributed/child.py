"""`lightning-cnn` on tiny data, as one of several processes, some of which fail at given batches.

Environment:
    CHILD_DATA: The data folder.
    CHILD_FAULTS: The faults, for example `1 train 3 killed, 0 train 4 hangs`: rank, stage, batch (counted from 1 over
        all epochs) and kind; `start` is the stage before the processes are connected. Those after the first restart by
        torchrun follow a semicolon, and so on.
"""

import errno
import inspect
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from chaos.child import know_the_data

from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.cli import run
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.errors import DataError, DivergenceError, UserError


def strike(fault: str) -> None:
    """Let this process fail."""
    match fault:
        case "user":
            raise UserError("the value 3 is too large; give less")
        case "data":
            raise DataError("an image is damaged; fetch it again")
        case "diverges":
            raise DivergenceError("the loss is nan; lower the learning rate")
        case "disk":
            raise OSError(errno.ENOSPC, "No space left on device", "metrics.csv")
        case "bug":
            raise ZeroDivisionError("of the user's own")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stopped":
            os.kill(os.getpid(), signal.SIGTERM)
        case "hangs":
            time.sleep(1000)
        case _:
            raise AssertionError(fault)


def fail_at(faults: dict[tuple[str, int], str]) -> None:
    """Let this process fail at the given batches of a stage."""
    batches: Counter[str] = Counter()
    step, init = ImageClassifier._step, MNISTDataModule.__init__

    def count(stage: str) -> None:
        batches[stage] += 1
        if fault := faults.get((stage, batches[stage])):
            strike(fault)

    def failing_step(self: ImageClassifier, batch: Any, stage: Any) -> Any:
        count(stage)
        return step(self, batch, stage)

    def failing_init(*args: Any, **kwargs: Any) -> None:
        count("start")
        init(*args, **kwargs)

    ImageClassifier._step = failing_step
    failing_init.__signature__ = inspect.signature(init)  # which the command line reads
    MNISTDataModule.__init__ = failing_init


def faults_of(rank: str, life: int) -> dict[tuple[str, int], str]:
    """Return the faults of the process of a rank, by stage and batch."""
    lives = os.environ.get("CHILD_FAULTS", "").split(";")
    told = [fault.split() for fault in (lives[life] if life < len(lives) else "").split(",") if fault]
    return {(stage, int(batch)): fault for whose, stage, batch, fault in told if whose == rank}


if __name__ == "__main__":
    know_the_data(Path(os.environ["CHILD_DATA"]))
    rank = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))
    fail_at(faults_of(rank, life=int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))))
    sys.stdout.reconfigure(line_buffering=True)
    run()
