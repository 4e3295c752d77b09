"""Workers of one sweep in processes of their own, with stubs of trials, for any storage.

A trial waits after its first epoch until the file `go` is in the folder, so that the order of events does not depend on
timing. The last heartbeat of a dead worker is dated back, so that its trial is stale at once, and no other one ever is.
"""

import csv
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import forks
import sqlalchemy

N_TRIALS = 3
#: Modules that a worker uses.
PROGRAM = tuple(f"lightning_cnn.{name}" for name in ("commands.sweep", "sweep.worker", "sweep.space", "sweep.study"))
#: Timeout of each wait, in seconds.
TIMEOUT = 60
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
    with start(folder, storage) as killed, start(folder, storage) as other:
        trial = until(lambda: trial_of(killed, folder))
        until(lambda: trial_of(other, folder))
        killed.kill()
        until(lambda: not is_alive(processes(folder)[trial][0]))
        miss_heartbeats(storage or database(folder), trial)
        (folder / "go").touch()
        _, errors = other.communicate(timeout=TIMEOUT)

    assert (other.returncode, errors) == (0, ""), errors
    rows = results(folder)
    assert Counter(row["state"] for row in rows) == {"complete": N_TRIALS, "interrupted": 1}
    first, second = (row for row in rows if Path(row["folder"]).name == trial)
    assert (first["state"], second["state"]) == ("interrupted", "complete")
    assert first["model.optimizer.lr"] == second["model.optimizer.lr"]
    assert not any(is_alive(process) for process, _ in processes(folder).values())


@contextmanager
def start(folder: Path, storage: str | None = None, n_trials: int = N_TRIALS) -> "Iterator[subprocess.Popen[str]]":
    """Start a worker, which is killed at the end of the block; its trial ends with it."""
    (folder / "space.yaml").write_text(SPACE)
    (folder / "cnn.yaml").write_text("trainer: {max_epochs: 3}\n")
    arguments = ["sweep", "--config=cnn.yaml", "--space=space.yaml", f"--n_trials={n_trials}", "--stub.waits=true"]
    with ExitStack() as stack:
        worker = stack.enter_context(
            forks.Popen(
                [sys.executable, "-m", "sweep.program", *arguments, *([f"--storage={storage}"] if storage else [])],
                has_forks=True,
                imports=PROGRAM,
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(worker.kill)
        yield worker


def database(folder: Path, name: str = "sweep-cnn") -> str:
    """Return the address of the storage that workers in a folder have by default."""
    return f"sqlite:///{folder}/logs/{name}/study.db"


def miss_heartbeats(url: str, trial: str) -> None:
    """Let the last heartbeat of a trial be so long ago that its worker is taken for dead."""
    url = url.replace("postgresql://", "postgresql+psycopg://")
    with sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).begin() as connection:
        attempts = "SELECT trial_id FROM trials WHERE state = 'RUNNING' AND number = :number"
        changed = connection.execute(
            sqlalchemy.text(
                f"UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00' WHERE trial_id IN ({attempts})"
            ),
            {"number": int(trial.removeprefix("trial-"))},
        )
        assert changed.rowcount == 1


def read_until(worker: "subprocess.Popen[str]", text: str) -> list[str]:
    """Return the lines that a worker prints, up to the one that has this text."""
    lines = [""]
    assert worker.stdout is not None
    while text not in lines[-1]:
        lines.append(worker.stdout.readline())
        assert lines[-1], (text, lines)
    return lines


def processes(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the process of each trial, by the name of its folder, and that of its worker."""
    found = {path.parent.name: path.read_text().split() for path in folder.glob("logs/sweep-cnn/trial-*/process")}
    return {name: (int(ids[0]), int(ids[1])) for name, ids in found.items() if ids}


def trial_of(worker: "subprocess.Popen[str]", folder: Path) -> str | None:
    """Return the trial that a worker runs, after its first epoch."""
    for name, (process, parent) in processes(folder).items():
        epochs = folder.glob(f"logs/sweep-cnn/{name}/*/*/metrics.csv")
        if parent == worker.pid and is_alive(process) and any(epochs):
            return name
    return None


def is_alive(process: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not (status.is_file() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def results(folder: Path) -> list[dict[str, str]]:
    with (folder / "logs/sweep-cnn/results.csv").open() as file:
        return [*csv.DictReader(file)]


def until(condition: Callable[[], T]) -> T:
    """Wait until a condition is true, and return its value."""
    end = time.monotonic() + TIMEOUT
    while not (result := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return result
