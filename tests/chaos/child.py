"""`lightning-cnn` on tiny data, in a process that writes down what it has saved and dies where it is told to.

Environment:
    CHAOS_DATA: The data folder.
    CHAOS_SAVED: The file that gets a line with its step for each checkpoint that is complete.
    CHAOS_DIE: For example `rename 12`: SIGKILL right before the twelfth rename. Or `renamed`, right after it, `fsync`,
        and `write`, in the middle of the bytes of a checkpoint.
"""

import dataclasses
import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_cnn.callbacks import Checkpoints
from lightning_cnn.cli import run
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.data.facts import FILES
from lightning_cnn.data.mnist import MNIST


def know_the_data(folder: Path) -> None:
    """Take the files that are there for the whole of MNIST."""
    raw = folder / MNIST.folder / "raw"
    sha256 = {file: hashlib.sha256((raw / file).read_bytes()).hexdigest() for file in FILES}
    MNISTDataModule.facts = dataclasses.replace(
        MNIST, sha256=sha256, mirrors=(), system_folder=None, debian_package=None
    )
    os.environ["LIGHTNING_CNN_DATA_DIR"] = str(folder)


def write_down_what_is_saved(path: Path) -> None:
    save = Checkpoints._save

    def save_and_tell(self: Checkpoints, trainer: Any, is_best: bool) -> None:
        save(self, trainer, is_best)
        with path.open("a") as file:
            file.write(f"{trainer.global_step}\n")

    Checkpoints._save = save_and_tell


def die_at(where: str, count: int) -> None:
    """See that the process is killed the `count`-th time it comes there."""
    left = count

    def maybe_die() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying(function: Callable[..., Any], after: bool = False) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if not after:
                maybe_die()
            result = function(*args)
            if after:
                maybe_die()
            return result

        return call

    def write_half_and_die(path: Path, content: Any) -> int:
        with path.open("wb") as file:
            half = len(content) // 2
            file.write(content[:half])
            file.flush()
            maybe_die()
            return half + file.write(content[half:])

    match where:
        case "write":
            Path.write_bytes = write_half_and_die
        case "fsync":
            os.fsync = dying(os.fsync)
        case "rename":
            os.replace = dying(os.replace)
        case "renamed":
            os.replace = dying(os.replace, after=True)


if __name__ == "__main__":
    know_the_data(Path(os.environ["CHAOS_DATA"]))
    write_down_what_is_saved(Path(os.environ["CHAOS_SAVED"]))
    if place := os.environ.get("CHAOS_DIE"):
        where, count = place.split()
        die_at(where, int(count))
    print("ready", flush=True)
    run()
