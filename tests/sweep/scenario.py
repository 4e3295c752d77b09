"""Workers of one sweep in processes of their own, with trials that only pretend to train; for any storage.

`run` needs nothing but a folder and, if it is not to be a file in it, the address of a storage:

    scenario.run(tmp_path)
    scenario.run(tmp_path, "postgresql://user@127.0.0.1:5433/optuna")
"""

import csv
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

N_TRIALS = 3
#: Longest time that anything may take, in seconds: more is a hang.
TOO_LONG = 60
SPACE = "model.optimizer.lr: {from: 1e-4, to: 1.0, log: true}\n"

T = TypeVar("T")


def run(folder: Path, storage: str | None = None) -> None:
    """Let two workers share a sweep and kill one with SIGKILL in the middle of a trial; assert that nothing is lost.

    Asserted: the trial process of the killed worker ends, its trial is resumed in the same folder, exactly as many
    trials end as were asked for, none fails, and no process is left.

    Args:
        folder: An empty folder, for everything that the workers write.
        storage: The `--storage` of both; None for their own file in `folder`.
    """
    with ExitStack() as stack:
        dying, living = (stack.enter_context(start(folder, storage)) for _ in range(2))
        stack.callback(living.kill)  # whatever happens here; their trials end with them
        stack.callback(dying.kill)
        struck = until(lambda: trial_of(dying, folder))
        until(lambda: trial_of(living, folder))
        dying.kill()
        killed_trial = processes(folder)[struck][0]
        until(lambda: not is_alive(killed_trial))
        printed, errors = living.communicate(timeout=TOO_LONG)

    assert (living.returncode, errors) == (0, ""), errors
    lines = [line for line in printed.splitlines() if line.startswith("trial ") and line.endswith(" s")]
    by_other = N_TRIALS - sum(" complete " in line or " pruned " in line for line in lines)
    rows = results(folder)
    states = Counter(row["state"] for row in rows)
    assert states["complete"] + states["pruned"] == N_TRIALS
    assert (states["interrupted"], len(rows)) == (1, N_TRIALS + 1)
    assert 0 <= by_other < N_TRIALS
    first, second = (row for row in rows if Path(row["folder"]).name == struck)
    assert (first["state"], second["state"]) == ("interrupted", "complete")
    assert first["model.optimizer.lr"] == second["model.optimizer.lr"]
    assert not any(is_alive(process) for process, _ in processes(folder).values())


def start(folder: Path, storage: str | None = None, n_trials: int = N_TRIALS) -> subprocess.Popen[str]:
    """Start a worker."""
    (folder / "space.yaml").write_text(SPACE)
    (folder / "cnn.yaml").write_text("trainer: {max_epochs: 10}\n")
    words = ["sweep", "--config=cnn.yaml", "--space=space.yaml", f"--n_trials={n_trials}", "--trainer.max_epochs=10"]
    return subprocess.Popen(
        [sys.executable, "-m", "sweep.program", *words, "--stub.seconds=0.1"]
        + ([] if storage is None else [f"--storage={storage}"]),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the process of each trial, by the name of its folder, and that of its worker."""
    found = {path.parent.name: path.read_text().split() for path in folder.glob("logs/sweep-cnn/trial-*/process")}
    return {name: (int(ids[0]), int(ids[1])) for name, ids in found.items() if ids}


def trial_of(worker: subprocess.Popen[str], folder: Path) -> str | None:
    """Return the trial that a worker is in the middle of."""
    for name, (process, parent) in processes(folder).items():
        epochs = folder.glob(f"logs/sweep-cnn/{name}/*/*/metrics.csv")
        if parent == worker.pid and is_alive(process) and any(epochs):
            return name
    return None


def is_alive(process: int) -> bool:
    """Whether a process runs; one that only waits for its end to be noticed does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not (status.is_file() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def results(folder: Path) -> list[dict[str, str]]:
    with (folder / "logs/sweep-cnn/results.csv").open() as file:
        return [*csv.DictReader(file)]


def until(found: Callable[[], T]) -> T:
    """Wait until there is something, and return it."""
    end = time.monotonic() + TOO_LONG
    while not (result := found()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return result
