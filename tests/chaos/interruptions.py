"""Training runs that are killed or stopped, then resumed: they must end as an uninterrupted run does, bit for bit."""

import functools
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import forks
from chaos.common import DATASETS, Outcome, differences, write_photos
from checkout import PYTHONPATH
from idx import write_idx_dataset

from lightning_cnn import checkpoint
from lightning_cnn.errors import UserError
from lightning_cnn.files import shipped_config

#: Shipped configs, with each network but `SixLayerCNN`.
CONFIGS = (
    "mnist/cnn.yaml",
    "fashion_mnist/fast.yaml",
    "mnist/deep_cnn.yaml",
    "fashion_mnist/simple_cnn.yaml",
    "mnist/fast.yaml",
    "fashion_mnist/mlp.yaml",
    "fashion_mnist/shallow_cnn.yaml",
    "folder.yaml",
)
#: What a config needs besides, and a smaller network.
NEEDED = {"folder.yaml": "--data.root {data}/photos --data.image_size 24 --model.network.width 4"}
#: Schedules that are stepped after every step, every epoch, or on a plateau; none for that of the config.
SCHEDULES = (
    "",
    "OneCycleLR --model.scheduler.max_lr 0.01",
    "CyclicLR --model.scheduler.base_lr 0.001 --model.scheduler.max_lr 0.01 --model.scheduler.cycle_momentum false",
    "StepLR --model.scheduler.step_size 1",
    "CosineAnnealingLR --model.scheduler.T_max 2",
    "lightning.pytorch.cli.ReduceLROnPlateau --model.scheduler.monitor val/loss --model.scheduler.patience 0",
)
#: Callbacks with a state, and what else changes from step to step.
CALLBACKS = (
    "",
    "--data.augment CropAndRotate",
    "--trainer.accumulate_grad_batches 3",
    "--trainer.val_check_interval 4",
    "--trainer.max_steps 13",
    "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor val/loss --trainer.callbacks.min_delta 9 "
    "--trainer.callbacks.patience 1",
    "--trainer.callbacks+=EMAWeightAveraging --trainer.callbacks.decay 0.9 "
    "--trainer.callbacks.update_starting_at_step 4",
    "--trainer.callbacks+=StochasticWeightAveraging --trainer.callbacks.swa_lrs 0.01 "
    "--trainer.callbacks.swa_epoch_start 1",
    "--trainer.callbacks+=ModelPruning --trainer.callbacks.pruning_fn l1_unstructured --trainer.callbacks.amount 0.1",
)
PRECISIONS = ("32-true", "64-true", "bf16-mixed", "bf16-true")
#: Two epochs of ten steps, and a checkpoint after each step.
SMALL = (
    "--data.val_size 50 --data.batch_size 15 --trainer.max_epochs 2 --trainer.log_every_n_steps 3 "
    "--trainer.enable_progress_bar false --checkpoints.every_n_steps 1 --plots.enabled false --dashboard.enabled false"
)
#: Interruptions that one worker makes one after the other.
_BATCH = 5
#: Seconds after which a process counts as hanging: DeepCNN in bfloat16 takes minutes on a processor without it.
_TIMEOUT = 600


@dataclass(frozen=True)
class Ended:
    """An ended process: its exit status, negative for a signal; its output; how long it took to end, in seconds."""

    status: int
    output: str
    seconds: float


class Training:
    """A training in a folder of its own, in one process after another.

    Args:
        folder: To be created.
        data: The data folder.
        temporary: The folder for temporary files of the processes.
        recipe: A config and further flags.
    """

    def __init__(self, folder: Path, data: Path, temporary: Path, recipe: tuple[str, ...]) -> None:
        folder.mkdir(parents=True)
        self.folder, self.recipe, self.saved = folder, recipe, folder / "saved"
        self.environment = {"CHAOS_DATA": str(data), "PYTHONPATH": PYTHONPATH, "TMPDIR": str(temporary)}
        self.environment["LIGHTNING_CNN_CACHE_DIR"] = str(data / "cache")

    def start(self, kill_at: str = "") -> forks.Popen:
        """Start the training, or resume it if there is a checkpoint."""
        config, *flags = self.recipe
        needed = NEEDED.get(config, "").format(data=self.environment["CHAOS_DATA"]).split()
        new = ("fit", "--config", str(shipped_config(config)), *SMALL.split(), *needed, *flags)
        variables = {"CHAOS_SAVED": str(self.saved), "CHAOS_KILL": kill_at, "OMP_NUM_THREADS": "1"}
        return forks.Popen(
            [sys.executable, "-m", "chaos.child", *(new if self.run is None else ("fit", "last"))],
            cwd=self.folder,
            env=os.environ | self.environment | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def start_ready(self, kill_at: str = "") -> forks.Popen:
        """Start it, and wait until the command begins."""
        process = self.start(kill_at)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def finish(self) -> Ended:
        """Train to the end."""
        return ended(self.start())

    @property
    def last_saved(self) -> int:
        """The step of the last complete checkpoint; 0 without one."""
        return max(map(int, self.saved.read_text().split()), default=0) if self.saved.is_file() else 0

    @property
    def run(self) -> Path | None:
        """The run folder, if it has a checkpoint."""
        return next((path.parents[1] for path in self.folder.glob("logs/*/*/checkpoints/last.ckpt")), None)

    def lost(self) -> str:
        """Return which checkpoint an interruption has damaged or lost, if any."""
        found = 0
        for path in self.folder.glob("logs/*/*/checkpoints/*.ckpt"):
            try:
                content = checkpoint.read(path)
            except UserError as error:
                return f"unreadable: {error}"
            if path.name == "last.ckpt":
                found = max(found, content["global_step"])
        is_lost = self.last_saved > found
        return (
            f"the checkpoint of step {self.last_saved} was complete, but only step {found} is left" if is_lost else ""
        )

    def differences(self, reference: "Training") -> list[str]:
        """Return in what the end of this training differs from that of another."""
        if self.run is None or reference.run is None:
            return ["there is no checkpoint"]
        found = []
        for name in ("best", "last"):
            contents = [checkpoint.read(run / "checkpoints" / f"{name}.ckpt") for run in (reference.run, self.run)]
            found += [f"{name}.ckpt{place}" for place in differences(*contents)]
        if (self.run / "metrics.csv").read_bytes() != (reference.run / "metrics.csv").read_bytes():
            found.append("metrics.csv")
        return found


#: Interrupts a training that takes so many seconds; returns what was wrong, or None if the training ended before.
Interrupt = Callable[[Training, random.Random, float], str | None]


def ended(process: forks.Popen) -> Ended:
    """Wait for a process to end."""
    since = time.monotonic()
    try:
        output, _ = process.communicate(timeout=_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        output = f"{process.communicate()[0]}\nhung for {_TIMEOUT} s"
    return Ended(process.returncode, output, time.monotonic() - since)


def draw(seed: int, batch: int) -> tuple[str, ...]:
    """Return a recipe: the next config, with a random schedule, callback and precision."""
    rng = random.Random(f"recipe {seed} {batch}")
    schedule = rng.choice(SCHEDULES)
    flags = [f"--model.scheduler {schedule}" if schedule else "", rng.choice(CALLBACKS)]
    return (CONFIGS[batch % len(CONFIGS)], *" ".join(flags).split(), "--trainer.precision", rng.choice(PRECISIONS))


def write_datasets(folder: Path) -> None:
    """Write both datasets into a folder, unless it is there."""
    if not folder.exists():
        for _, facts in DATASETS:
            write_idx_dataset(folder, facts)
        write_photos(folder / "photos")


@functools.cache  # shared by the faults of one folder
def reference(folder: Path, recipe: tuple[str, ...]) -> tuple[Training, float]:
    """Return an uninterrupted training and its seconds; its data is in `folder / "data"`."""
    write_datasets(folder / "data")
    name = hashlib.sha256(" ".join(recipe).encode()).hexdigest()[:16]
    training = Training(folder / f"reference {name}", folder / "data", folder, recipe)
    end = ended(training.start_ready())
    if end.status:
        raise RuntimeError(f"{' '.join(recipe)}: {end.output[-500:]}")
    return training, end.seconds


def kills(tries: int, seed: int, folder: Path) -> Outcome:
    """Kill trainings with SIGKILL at random times or points of saving, a few times each; then let them finish."""
    return _in_parallel("SIGKILL at random points, half of them inside a save", tries, seed, folder, _kill)


def stops(tries: int, seed: int, folder: Path) -> Outcome:
    """Stop trainings with SIGTERM, SIGINT or SIGHUP at random times, a few times each; then let them finish."""
    fault = "SIGTERM, SIGINT and SIGHUP: exit status, within five seconds, command to resume"
    return _in_parallel(fault, tries, seed, folder, _stop)


def stops_of_two(tries: int, seed: int, folder: Path) -> Outcome:
    """The same with trainings in two processes."""
    two = ("--trainer.devices", "2", "--trainer.accelerator", "cpu", "--trainer.strategy", "ddp")
    return _in_parallel("the same, with two processes", tries, seed, folder, _stop, two)


def _in_parallel(
    fault: str, tries: int, seed: int, folder: Path, interrupt: Interrupt, flags: tuple[str, ...] = ()
) -> Outcome:
    """Interrupt trainings `tries` times in all, with one training on each core, and a recipe for every few."""
    recipes = [(*draw(seed, batch), *flags) for batch in range(-(-tries // _BATCH))]
    write_datasets(folder / "data")
    memory = Path("/dev/shm")  # a temporary folder on another filesystem, if possible
    temporary = memory if os.access(memory, os.W_OK) else folder

    def work(batch: int) -> list[str]:
        """Interrupt up to five times; a training that ends before is followed by a new one."""
        rng = random.Random(f"{seed} {batch}")
        left = min(_BATCH, tries - _BATCH * batch)
        lost: list[str] = []
        try:
            uninterrupted, seconds = references[recipes[batch]].result()
        except RuntimeError as error:
            return [f"without an interruption: {error}"] * left
        number = 0
        while left > 0:
            name = f"training {batch}.{number} of seed {seed} ({' '.join(uninterrupted.recipe)})"
            training = Training(folder / f"{batch}.{number}", folder / "data", temporary, uninterrupted.recipe)
            done = 0
            while done < left and (problem := interrupt(training, rng, seconds)) is not None:
                done += 1
                if problem := problem or training.lost():
                    lost.append(f"{name}, interruption {done}: {problem}")
            end = training.finish()
            if end.status or (different := training.differences(uninterrupted)):
                lost += [f"{name}, in the end: {end.output[-500:] if end.status else ', '.join(different[:5])}"] * done
            shutil.rmtree(training.folder)
            left -= done
            number += 1
        return lost

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        references = {recipe: pool.submit(reference, folder, recipe) for recipe in dict.fromkeys(recipes)}
        return Outcome(fault, tries, [line for lost in pool.map(work, range(len(recipes))) for line in lost])


def _kill(training: Training, rng: random.Random, seconds: float) -> str | None:
    if rng.random() < 0.5:
        kill_at = f"{rng.choice(['write', 'fsync', 'rename', 'renamed'])} {rng.randint(1, 60)}"
        end = ended(training.start_ready(kill_at))
    else:
        process = training.start_ready()
        time.sleep(rng.uniform(0.0, 0.8) * seconds)
        process.kill()
        end = ended(process)
    if end.status == 0:
        return None
    return "" if end.status == -signal.SIGKILL else end.output


def _stop(training: Training, rng: random.Random, seconds: float) -> str | None:
    before = training.last_saved
    process = training.start_ready()
    time.sleep(rng.uniform(0.0, 0.8) * seconds)
    sent = rng.choice([signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    process.send_signal(sent)
    end = ended(process)
    if end.status == 0:
        return None
    lines = [line for line in end.output.splitlines() if line.startswith(f"lightning-cnn: stopped by {sent.name}")]
    is_right = end.status == 128 + sent and end.seconds <= 5 and len(lines) == 1
    if is_right and ("resume from step" in lines[0] or training.last_saved == before):
        return ""
    return f"status {end.status} {end.seconds:.1f} s after {sent.name}: {lines or end.output[-500:]}"
