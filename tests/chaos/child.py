"""`lightning-cnn` on tiny datasets, in a process that records its saved checkpoints and can kill itself.

Environment:
    CHAOS_DATA: The data folder.
    CHAOS_SAVED: A file; each complete checkpoint appends a line with its step.
    CHAOS_KILL: For example `rename 12`: SIGKILL right before the twelfth rename; `renamed`: right after it. Or `fsync`,
        or `write`, in the middle of the bytes of a checkpoint.
"""

import dataclasses
import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos.common import DATASETS

from lightning_cnn.callbacks import Checkpoints
from lightning_cnn.cli import run
from lightning_cnn.data.facts import FILES


def expect_tiny_datasets(folder: Path) -> None:
    """Make the data modules expect the files of a folder, which has one dataset or both."""
    for module, facts in DATASETS:
        raw = folder / facts.folder / "raw"
        if not raw.is_dir():
            continue
        sha256 = {file: hashlib.sha256((raw / file).read_bytes()).hexdigest() for file in FILES}
        module.facts = dataclasses.replace(facts, sha256=sha256, mirrors=(), system_folder=None, debian_package=None)
    os.environ["LIGHTNING_CNN_DATA_DIR"] = str(folder)


def record_saved_steps(path: Path) -> None:
    save = Checkpoints._save

    def save_and_record(self: Checkpoints, trainer: Any, is_best: bool) -> None:
        save(self, trainer, is_best)
        with path.open("a") as file:
            file.write(f"{trainer.global_step}\n")

    Checkpoints._save = save_and_record


def kill_at(where: str, count: int) -> None:
    """Kill this process at the `count`-th call."""
    left = count

    def tick() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def write_in_halves(path: Path, content: Any) -> int:
        half = len(content) // 2
        with path.open("wb") as file:
            file.write(content[:half])
            file.flush()
            tick()
            return half + file.write(content[half:])

    def before(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: (tick(), function(*args))[1]

    def after(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: (function(*args), tick())[0]

    match where:
        case "write":
            Path.write_bytes = write_in_halves
        case "fsync":
            os.fsync = before(os.fsync)
        case "rename":
            os.replace = before(os.replace)
        case "renamed":
            os.replace = after(os.replace)


if __name__ == "__main__":
    expect_tiny_datasets(Path(os.environ["CHAOS_DATA"]))
    record_saved_steps(Path(os.environ["CHAOS_SAVED"]))
    if place := os.environ.get("CHAOS_KILL"):
        where, count = place.split()
        kill_at(where, int(count))
    print("ready", flush=True)
    run()
