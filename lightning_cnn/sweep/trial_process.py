"""One trial: a `fit` in a process and a folder of its own."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from lightning_cnn.sweep.space import Value, flag

#: What trains; with `fit` and its flags behind it. It ends when its worker does.
PROGRAM = (sys.executable, "-m", "lightning_cnn.sweep.trial_main")
#: Seconds for a trial that shall end, to save; less than a worker may be silent without being taken for dead.
STOP_PATIENCE = 20
#: A trial that is tried again goes on where it was.
_RESUME = ("--resume", "auto")
#: What a trial does without unless it is asked for: nobody looks at pictures and progress of all trials.
_PLAIN = ("--plots.enabled=false", "--trainer.enable_progress_bar=false")
#: What tells a process its place among others: SLURM may start workers side by side, but a trial belongs to one.
_PLACES = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE")


def command(config: Path, flags: Sequence[str], settings: Mapping[str, Value]) -> list[str]:
    """Return `fit` with the flags of a trial: first those of the user, then what the trial has chosen."""
    return ["fit", "--config", str(config), *_PLAIN, *flags, *(flag(name, value) for name, value in settings.items())]


class TrialProcess:
    """The process of a trial; leaving its block ends it, and so does the end of this process, however that comes.

    Args:
        words: What `command` returns.
        folder: The folder of the trial, which keeps its runs and what they print.
    """

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        self._errors = folder / "stderr.txt"
        environment = {name: value for name, value in os.environ.items() if name not in _PLACES}
        with (folder / "stdout.txt").open("ab") as output, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [*PROGRAM, *words, f"--trainer.default_root_dir={folder}", *_RESUME],
                stdin=subprocess.PIPE,  # the child sees it close when this process ends
                stdout=output,
                stderr=errors,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the worker, who tells its trial
            )

    def __enter__(self) -> "TrialProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait(self, seconds: float) -> int | None:
        """Return the exit status, negative for a signal; None if it has not ended within this time."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Let the process save and end, and see that it has."""
        if self._process.poll() is None:
            self._process.terminate()
            if self.wait(STOP_PATIENCE) is None:
                self._process.kill()
                self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def last_words(self) -> str:
        """How the process has ended: the last line of its stderr, and the signal if one has killed it."""
        lines = [line.strip() for line in self._errors.read_text(errors="replace").splitlines() if line.strip()]
        ours = [line for line in lines if line.startswith("lightning-cnn: ")]
        said = [*lines, *ours][-1].removeprefix("lightning-cnn: ").removeprefix("error: ") if lines else "nothing"
        if (status := self._process.returncode) >= 0:
            return said
        memory = ", perhaps for want of memory" if status == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-status).name}{memory}; its last words: {said}"


def run_folder(folder: Path) -> Path | None:
    """Return the newest run in the folder of a trial, if it has begun one."""
    runs = [path for path in folder.glob("*/version_*") if (path / "config.yaml").is_file()]
    return max(runs, key=lambda run: int(run.name.removeprefix("version_")), default=None)


def read_config(run: Path) -> dict[str, Any]:
    """Return all settings of a run, as plain types."""
    config: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    return config


def accuracies(run: Path) -> list[tuple[int, float]]:
    """Return the epoch and the accuracy, 0 to 1, of each validation so far."""
    path = run / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [(int(float(row["epoch"])), float(row["val/acc"])) for row in csv.DictReader(file) if row.get("val/acc")]


def accuracy_in_test(run: Path) -> float | None:
    """Return the accuracy on the test images, 0 to 1, if the run was tested."""
    path = run / "test_metrics.json"
    return float(json.loads(path.read_text(encoding="utf-8"))["test/acc"]) if path.is_file() else None
