"""`lightning-cnn` on tiny data, as one of several processes, some of which fail at given batches.

Environment:
    CHILD_DATA: The data folder.
    CHILD_FAULTS: The faults before torchrun's first restart, for example `1 train 3 killed, 0 train 4 hangs`: rank,
        stage, batch (counted from 1 over all epochs) and kind.
"""

import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from chaos.child import expect_tiny_datasets

from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.cli import run
from lightning_cnn.errors import UserError


def fail(fault: str) -> None:
    """Let this process fail in this way."""
    match fault:
        case "user":
            raise UserError("the value 3 is too large; give less")
        case "bug":
            raise ZeroDivisionError("of the user's own")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hangs":
            time.sleep(1000)
        case _:
            raise AssertionError(fault)


def fail_at(faults: dict[tuple[str, int], str]) -> None:
    """Let this process fail at the given batches of a stage."""
    batches: Counter[str] = Counter()
    step = ImageClassifier._step

    def failing_step(self: ImageClassifier, batch: Any, stage: Any) -> Any:
        batches[stage] += 1
        if kind := faults.get((stage, batches[stage])):
            fail(kind)
        return step(self, batch, stage)

    ImageClassifier._step = failing_step


def faults_of(rank: str) -> dict[tuple[str, int], str]:
    """Return the faults of the process of a rank, by stage and batch."""
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        return {}
    faults = [fault.split() for fault in os.environ.get("CHILD_FAULTS", "").split(",") if fault]
    return {(stage, int(batch)): kind for of_rank, stage, batch, kind in faults if of_rank == rank}


if __name__ == "__main__":
    expect_tiny_datasets(Path(os.environ["CHILD_DATA"]))
    fail_at(faults_of(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))))
    sys.stdout.reconfigure(line_buffering=True)
    run()
