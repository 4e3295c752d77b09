"""Trainings that are killed, stopped and gone on with; they must come to what one without a fault comes to."""

import functools
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from chaos.outcome import Outcome
from checkout import PYTHONPATH
from idx import write_idx_dataset

from lightning_cnn import checkpoint
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.errors import UserError

#: ShuffledLoader, augmented, with dropout, and saved after every step: 2 × 10 steps.
FIT = (
    *("fit", "--model", "CNNClassifier", "--data", "MNISTDataModule", "--data.augment", "CropAndRotate"),
    *(
        "--data.val_size",
        "50",
        "--data.batch_size",
        "15",
        "--trainer.max_epochs",
        "2",
        "--trainer.precision",
        "32-true",
    ),
    *("--trainer.log_every_n_steps", "3", "--checkpoints.every_n_steps", "1", "--plots.enabled", "false"),
    *("--dashboard.enabled", "false", "--trainer.enable_progress_bar", "false"),
)
ON = ("fit", "--ckpt_path", "last")
#: Strikes that one worker does one after the other.
_BATCH = 5
#: Longest time that anything may take, in seconds: more is a hang.
_TOO_LONG = 120


@dataclass(frozen=True)
class Ended:
    """How a process has ended: its status, negative for a signal, all that it printed, and how long that took."""

    status: int
    printed: str
    seconds: float


class Life:
    """A training in a folder of its own, in one process after another.

    Args:
        folder: Where it is.
        data: The data folder.
        temporary: The folder for temporary files of its processes.
        flags: What else to train with.
    """

    def __init__(self, folder: Path, data: Path, temporary: Path, flags: tuple[str, ...] = ()) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.flags = flags
        self.saved = folder / "saved"
        self.environment = os.environ | {
            "CHAOS_DATA": str(data),
            "CHAOS_SAVED": str(self.saved),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": PYTHONPATH,
            "TMPDIR": str(temporary),
        }

    def start(self, die_at: str = "") -> subprocess.Popen[str]:
        """Begin the training, or go on with it if there is a checkpoint."""
        return subprocess.Popen(
            [sys.executable, "-m", "chaos.child", *(ON if self.run is not None else (*FIT, *self.flags))],
            cwd=self.folder,
            env=self.environment | {"CHAOS_DIE": die_at},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def begin(self, die_at: str = "") -> subprocess.Popen[str]:
        """Do so, and wait until all is imported and the command begins."""
        process = self.start(die_at)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def finish(self) -> Ended:
        """Let the training end by itself."""
        return ended(self.start())

    @property
    def completed(self) -> int:
        """The step of the last checkpoint that was complete."""
        return max(map(int, self.saved.read_text().split()), default=0) if self.saved.is_file() else 0

    @property
    def run(self) -> Path | None:
        """The run folder that has a checkpoint to go on from."""
        return next((path.parents[1] for path in self.folder.glob("logs/*/*/checkpoints/last.ckpt")), None)

    def damage(self) -> str:
        """What is wrong with the checkpoints after a fault, if anything."""
        found = 0
        for path in self.folder.glob("logs/*/*/checkpoints/*.ckpt"):
            try:
                content = checkpoint.read(path)
            except UserError as error:
                return f"unreadable: {error}"
            if path.name == "last.ckpt":
                found = max(found, content["global_step"])
        lost = self.completed > found
        return f"the checkpoint of step {self.completed} was complete, and step {found} is left" if lost else ""

    def differences(self, reference: "Life") -> list[str]:
        """In what the end of this training differs from that of another."""
        if self.run is None or reference.run is None:
            return ["there is no checkpoint"]
        found = []
        for name in ("best", "last"):
            contents = [checkpoint.read(run / "checkpoints" / f"{name}.ckpt") for run in (reference.run, self.run)]
            found += [f"{name}.ckpt{place}" for place in differences(*contents)]
        if (self.run / "metrics.csv").read_bytes() != (reference.run / "metrics.csv").read_bytes():
            found.append("metrics.csv")
        return found


#: Does something to a process of a life; returns what was wrong with that, or None if the life was over before.
Strike = Callable[[Life, random.Random, float], str | None]


def ended(process: subprocess.Popen[str]) -> Ended:
    """Wait for a process to end."""
    since = time.monotonic()
    try:
        printed, _ = process.communicate(timeout=_TOO_LONG)
    except subprocess.TimeoutExpired:
        process.kill()
        printed, _ = process.communicate()
        printed += "\nit hung"
    return Ended(process.returncode, printed, time.monotonic() - since)


@functools.cache  # the faults of one folder share it
def reference(folder: Path, flags: tuple[str, ...]) -> tuple[Life, float]:
    """Return a training without a fault, and the seconds that it took; its data is in `folder / "data"`."""
    write_idx_dataset(folder / "data", MNIST)
    life = Life(folder / "reference", folder / "data", folder, flags)
    end = ended(life.begin())
    if end.status:
        raise RuntimeError(end.printed)
    return life, end.seconds


def elsewhere(folder: Path) -> Path:
    """Return a folder for temporary files that is on another filesystem than `folder`, if there is one."""
    memory = Path("/dev/shm")
    is_other = memory.is_dir() and os.access(memory, os.W_OK) and memory.stat().st_dev != folder.stat().st_dev
    return memory if is_other else folder


def kills(tries: int, seed: int, folder: Path) -> Outcome:
    """Kill trainings with SIGKILL, at random times or points of saving, a few times each; then let them end."""
    return _in_parallel("SIGKILL at random points, half of them inside a save", tries, seed, folder, _kill)


def stops(tries: int, seed: int, folder: Path) -> Outcome:
    """Stop trainings with SIGTERM or SIGINT at random times, a few times each; then let them end."""
    return _in_parallel("SIGTERM and SIGINT: status, five seconds, how to go on", tries, seed, folder, _stop)


def stops_of_two(tries: int, seed: int, folder: Path) -> Outcome:
    """Do so with trainings in two processes, whose images together are the same."""
    two = ("--trainer.devices", "2", "--trainer.accelerator", "cpu", "--trainer.strategy", "ddp")
    return _in_parallel("the same, with two processes", tries, seed, folder, _stop, two)


def _in_parallel(
    fault: str, tries: int, seed: int, folder: Path, strike: Strike, flags: tuple[str, ...] = ()
) -> Outcome:
    """Strike lives, as many times in all, with one life on each core."""
    undisturbed, seconds = reference(folder, flags)
    temporary = elsewhere(folder)

    def live(batch: int) -> list[str]:
        """Strike up to five times; a life that has come to its end by itself is followed by a new one."""
        rng = random.Random(f"{seed} {batch}")
        left = min(_BATCH, tries - _BATCH * batch)
        lost: list[str] = []
        for number in itertools.count():
            name = f"life {batch}.{number} of seed {seed}"
            life = Life(folder / f"{batch}.{number}", folder / "data", temporary, flags)
            struck = 0
            while struck < left:
                problem = strike(life, rng, seconds)
                if problem is None:
                    break
                struck += 1
                if problem := problem or life.damage():
                    lost.append(f"{name}, fault {struck}: {problem}")
            end = life.finish()
            if end.status or (different := life.differences(undisturbed)):
                what = end.printed[-500:] if end.status else ", ".join(different[:5])
                lost += [f"{name}, in the end: {what}"] * struck
            shutil.rmtree(life.folder)
            left -= struck
            if left == 0:
                return lost
        raise AssertionError

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        lost = list(pool.map(live, range(-(-tries // _BATCH))))
    return Outcome(fault, tries, [line for lines in lost for line in lines])


def _kill(life: Life, rng: random.Random, seconds: float) -> str | None:
    """Return what was wrong, or nothing, with a process that was killed; None if it had ended before."""
    if rng.random() < 0.5:
        end = ended(life.begin(f"{rng.choice(['write', 'fsync', 'rename', 'renamed'])} {rng.randint(1, 60)}"))
    else:
        process = life.begin()
        time.sleep(rng.uniform(0.0, 0.8) * seconds)
        process.kill()
        end = ended(process)
    if end.status == 0:
        return None
    return "" if end.status == -signal.SIGKILL else end.printed


def _stop(life: Life, rng: random.Random, seconds: float) -> str | None:
    """Return what was wrong, or nothing, with the end of a process that was stopped; None if it had ended before."""
    before = life.completed
    process = life.begin()
    time.sleep(rng.uniform(0.0, 0.8) * seconds)
    asked = rng.choice([signal.SIGTERM, signal.SIGINT])
    process.send_signal(asked)
    end = ended(process)
    if end.status == 0:
        return None
    said = [line for line in end.printed.splitlines() if line.startswith(f"lightning-cnn: stopped by {asked.name}")]
    is_right = end.status == 128 + asked and end.seconds <= 5 and len(said) == 1
    if is_right and ("resume from step" in said[0] or life.completed == before):
        return ""
    return f"status {end.status} {end.seconds:.1f} s after {asked.name}: {said or end.printed[-500:]}"


def differences(first: Any, second: Any, place: str = "") -> Iterator[str]:
    """Yield the places in which the contents of two checkpoints are not the same, to the bit."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted(first.keys() | second.keys(), key=str):
            if key in first and key in second:
                yield from differences(first[key], second[key], f"{place}/{key}")
            else:
                yield f"{place}/{key}"
    elif isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
        for index, pair in enumerate(zip(first, second, strict=True)):
            yield from differences(*pair, f"{place}/{index}")
    elif isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        if first.dtype != second.dtype or not torch.equal(first, second):
            yield place
    elif first != second:
        yield place
