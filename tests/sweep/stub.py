"""A stub of `fit` for tests of a sweep: pretends to train, and ends with SIGTERM or with its parent.

Flags:
    --trainer.max_epochs: Epochs, 3 unless given.
    --stub.waits: After its first epoch, wait for the file `go` in the current folder.
    --stub.seconds: How long each epoch takes.
    --model.optimizer.lr: Decides the accuracy, which is best at 0.01; the loss is 1 − the accuracy.
    --stub.dies: The exit status with which it ends after its first epoch, negative for a signal.
    --stub.message: The message that it writes to stderr then.
    --stub.value: The accuracy of all epochs.
"""

import csv
import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from types import SimpleNamespace

import yaml

from lightning_cnn.files import atomic_write
from lightning_cnn.sweep.trial_main import end_with_parent


@contextmanager
def start(arguments: Sequence[str], folder: Path) -> Iterator[SimpleNamespace]:
    """Replace `trial_process.start`, and run the trial in this process, to its end."""
    with (folder / "stderr.txt").open("w") as errors, redirect_stderr(errors):
        status = main([*arguments, f"--trainer.default_root_dir={folder}"])
    yield SimpleNamespace(poll=lambda: status)


def accuracy(lr: float, epoch: int) -> float:
    """The accuracy after an epoch, from 0 on."""
    return (0.9 - 0.1 * abs(math.log10(lr) + 2)) * (1 - 0.5 ** (epoch + 1))


def write(run: Path, rows: list[dict[str, object]]) -> None:
    with atomic_write(run / "metrics.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", "step", "val/acc", "val/loss"])
        writer.writeheader()
        writer.writerows(rows)


def main(arguments: list[str]) -> int:
    """Return the exit status."""
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in arguments if "=" in flag)
    epochs, lr = int(flags.get("trainer.max_epochs", 3)), float(flags.get("model.optimizer.lr", 0.01))
    run = Path(flags["trainer.default_root_dir"], "mnist-cnn", "version_0")
    run.mkdir(parents=True, exist_ok=True)
    (run.parents[1] / "process").write_text(f"{os.getpid()} {os.getppid()}")
    (run / "config.yaml").write_text(
        yaml.safe_dump({"trainer": {"max_epochs": epochs}, "model": {"lr": lr}, "plots": {"enabled": False}})
    )
    rows: list[dict[str, object]] = []
    if (run / "metrics.csv").is_file():
        with (run / "metrics.csv").open() as file:
            rows = [*csv.DictReader(file)]
    for epoch in range(len(rows), epochs):
        time.sleep(float(flags.get("stub.seconds", 0)))
        value = float(flags.get("stub.value", accuracy(lr, epoch)))
        rows.append({"epoch": epoch, "step": 10 * epoch, "val/acc": value, "val/loss": 1 - value})
        write(run, rows)
        if "stub.dies" in flags:
            print("a warning", flags.get("stub.message", ""), sep="\n", file=sys.stderr, flush=True)
            return int(flags["stub.dies"])
        while "stub.waits" in flags and not Path("go").exists():
            time.sleep(0.02)
    if flags.get("test") == "true":
        (run / "test_metrics.json").write_text(json.dumps({"test/acc": 0.5}))
    return 0


def stop(signum: int, _: object) -> None:
    print(f"lightning-cnn: stopped by {signal.Signals(signum).name}", file=sys.stderr)
    sys.exit(128 + signum)


if __name__ == "__main__":
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
    end_with_parent()
    sys.exit(main(sys.argv[1:]))
