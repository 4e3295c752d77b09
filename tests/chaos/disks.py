"""Disks that are full or read-only while a training saves."""

import random
import shutil
import subprocess
from pathlib import Path

from chaos.common import Outcome
from chaos.interruptions import CONFIGS, Ended, Training, ended, reference

_MIB = 1 << 20
_RECIPE = (CONFIGS[0], "--trainer.precision", "32-true")
#: Free space that is too small for a run with its checkpoints of 5 MB.
_FREE = (_MIB // 10, 14 * _MIB)


def run(tries: int, seed: int, folder: Path) -> Outcome:
    """Fill the disk of a training, or in every second try make it read-only; then undo that, and let it finish."""
    fault = "disk full or read-only: one clear line, nothing lost"
    uninterrupted, _ = reference(folder, _RECIPE)
    disk = folder / "disk"
    disk.mkdir()
    if not mount(disk):
        return Outcome(f"{fault} (not tried: this user may not mount a disk)", 0)
    lost = []
    try:
        for number in range(tries):
            training = Training(disk / str(number), folder / "data", folder, _RECIPE)
            training.saved = folder / f"saved_{number}"  # on a disk with space
            rng = random.Random(f"{seed} {number}")
            problem = (_fill(training, disk, rng) if number % 2 == 0 else _forbid(training, disk)) or training.lost()
            end = training.finish()
            if not problem and end.status:
                problem = f"in the end: {end.output[-500:]}"
            if problem := problem or ", ".join(training.differences(uninterrupted)[:5]):
                lost.append(f"try {number} of seed {seed}: {problem}")
            shutil.rmtree(training.folder)
    finally:
        unmount(disk)
    return Outcome(fault, tries, lost)


def mount(disk: Path) -> bool:
    """Make the folder a small disk in memory, and return whether that is allowed."""
    if shutil.which("mount") is None:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={64 * _MIB}", "tmpfs", disk]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def unmount(disk: Path) -> None:
    """Unmount it."""
    subprocess.run(["umount", disk], check=True)


def _fill(training: Training, disk: Path, rng: random.Random) -> str:
    """Train with too little space, free it again, and return what was wrong with the end of the process."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(disk).free - rng.randint(*_FREE)))
    end = ended(training.start())
    ballast.unlink()
    return _wrong(end, "No space left on device")


def _forbid(training: Training, disk: Path) -> str:
    """Kill the training, resume it on a read-only disk, and return what was wrong with the end of the process."""
    ended(training.start("renamed 25"))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    end = ended(training.start())
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    return _wrong(end, "ead-only file system")


def _wrong(end: Ended, reason: str) -> str:
    errors = [line for line in end.output.splitlines() if "error:" in line.lower()]
    if end.status == 1 and len(errors) == 1 and reason in errors[0] and "Traceback" not in end.output:
        return ""
    return f"status {end.status}: {end.output[-1500:]}"
