"""What a sweep takes for `fit` in its tests: it pretends to train, and ends as soon as it is told to or left alone.

Flags:
    --trainer.max_epochs: Epochs, 3 unless given.
    --stub.seconds: How long each lasts.
    --model.optimizer.lr: Decides the accuracy, which is best at 0.01; the loss is 1 − the accuracy.
    --stub.dies: The exit status with which it ends after its first epoch, negative for a signal.
    --stub.says: What it says then, on stderr.
"""

import csv
import json
import math
import os
import signal
import sys
import time
from pathlib import Path

import yaml

from lightning_cnn.files import atomic_write
from lightning_cnn.sweep.trial_main import end_with_parent


def stop(signum: int, _: object) -> None:
    print(f"lightning-cnn: stopped by {signal.Signals(signum).name}", file=sys.stderr)
    sys.exit(128 + signum)


def accuracy(lr: float, epoch: int) -> float:
    """The accuracy after an epoch, from 0 on."""
    return (0.9 - 0.1 * abs(math.log10(lr) + 2)) * (1 - 0.5 ** (epoch + 1))


def write(run: Path, rows: list[dict[str, object]]) -> None:
    with atomic_write(run / "metrics.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", "step", "val/acc", "val/loss"])
        writer.writeheader()
        writer.writerows(rows)


def main(words: list[str]) -> int:
    flags = dict(word.removeprefix("--").split("=", 1) for word in words if "=" in word)
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
        value = accuracy(lr, epoch)
        rows.append({"epoch": epoch, "step": 10 * epoch, "val/acc": value, "val/loss": 1 - value})
        write(run, rows)
        if "stub.dies" in flags:
            print("a warning", flags.get("stub.says", ""), sep="\n", file=sys.stderr, flush=True)
            if (status := int(flags["stub.dies"])) < 0:
                os.kill(os.getpid(), -status)
            return status
    if flags.get("test") == "true":
        (run / "test_metrics.json").write_text(json.dumps({"test/acc": 0.5}))
    return 0


if __name__ == "__main__":
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, stop)
    end_with_parent()
    sys.exit(main(sys.argv[1:]))
