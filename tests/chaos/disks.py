"""Disks that are full, or may not be written any more, while a training saves."""

import random
import shutil
import subprocess
from pathlib import Path

from chaos.lives import Life, ended, reference
from chaos.outcome import Outcome

_MIB = 1 << 20
_SIZE = 64 * _MIB
#: Free space that is not enough for a run with its checkpoints of 5 MB.
_FREE = (_MIB // 10, 14 * _MIB)


def run(tries: int, seed: int, folder: Path) -> Outcome:
    """Let the disk of a run be full, or in every second try read-only; then mend that, and let the run go on."""
    fault = "disk full, or read-only: one clear line, and nothing lost"
    undisturbed, _ = reference(folder, ())
    disk = folder / "disk"
    disk.mkdir()
    if not mount(disk):
        return Outcome(f"{fault} (may not be tried here: needs to mount a disk)", 0)
    try:
        lost = []
        for number in range(tries):
            life = Life(disk / f"life_{number}", folder / "data", folder)
            life.saved = folder / f"saved_{number}"  # which has to go on where the disk is full
            life.environment["CHAOS_SAVED"] = str(life.saved)
            rng = random.Random(f"{seed} {number}")
            problem = _fill(life, disk, rng) if number % 2 == 0 else _forbid(life, disk)
            problem = problem or life.damage()
            end = life.finish()
            if not problem and end.status:
                problem = f"in the end: {end.printed[-500:]}"
            if problem := problem or ", ".join(life.differences(undisturbed)[:5]):
                lost.append(f"try {number} of seed {seed}: {problem}")
            shutil.rmtree(life.folder)
    finally:
        unmount(disk)
    return Outcome(fault, tries, lost)


def mount(disk: Path) -> bool:
    """Make the folder a small disk in memory, and return whether that is allowed."""
    if shutil.which("mount") is None:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", disk]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def unmount(disk: Path) -> None:
    """Take it away again."""
    subprocess.run(["umount", disk], check=True)


def _fill(life: Life, disk: Path, rng: random.Random) -> str:
    """Leave the run too little room, and return what was wrong with its end; there is room again afterwards."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(disk).free - rng.randint(*_FREE)))
    end = ended(life.start())
    ballast.unlink()
    return _flaw(end.status, end.printed, "No space left on device")


def _forbid(life: Life, disk: Path) -> str:
    """Stop the run, let it go on while nothing can be written, and return what was wrong with its end."""
    ended(life.start("renamed 25"))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    end = ended(life.start())
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    return _flaw(end.status, end.printed, "ead-only file system")


def _flaw(status: int, printed: str, reason: str) -> str:
    errors = [line for line in printed.splitlines() if "error:" in line.lower()]
    if status == 1 and len(errors) == 1 and reason in errors[0] and "Traceback" not in printed:
        return ""
    return f"status {status}: {printed[-1500:]}"
