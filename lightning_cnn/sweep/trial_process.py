"""The process of a trial: `fit` in its own folder, started by a worker and ended with it.

Imports neither torch nor Optuna.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from lightning_cnn.run import Run
from lightning_cnn.sweep import trial_main

#: The value of a setting.
Value: TypeAlias = bool | int | float | str | None

#: Settings that the sweep gives to each trial itself.
RESERVED = ("config", "ckpt_path", "resume", "test", "overwrite", "trainer.default_root_dir")
#: The program that trains; `fit` and its flags follow. It ends when its worker does.
PROGRAM = (sys.executable, "-m", trial_main.__name__)
#: Seconds for a stopped trial to save its checkpoint; less than a worker may miss heartbeats.
STOP_PATIENCE = 20
#: Defaults of a trial; the user's flags come later and override them.
_DEFAULTS = ("--plots.enabled=false", "--trainer.enable_progress_bar=false")
#: SLURM may start several workers as tasks of one job, but a trial is not one of these tasks.
_SLURM_TASK = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE")


def flag(name: str, value: Value) -> str:
    """Return a setting as a flag of the command line.

    Example:
        >>> flag("model.optimizer.nesterov", True)
        '--model.optimizer.nesterov=true'
    """
    text = {True: "true", False: "false", None: "null"}[value] if isinstance(value, bool | None) else str(value)
    return f"--{name}={text}"


def command(config: Path, flags: Sequence[str], settings: Mapping[str, Value]) -> list[str]:
    """Return the arguments of a trial's `fit`: first the flags of the user, then what the trial has chosen."""
    chosen = [flag(name, value) for name, value in settings.items()]
    return ["fit", "--config", str(config), *_DEFAULTS, *flags, *chosen]


class TrialProcess:
    """The process of a trial. It ends when the `with` block is left, or when the worker's process ends.

    Args:
        arguments: What `command` returns.
        folder: The folder of the trial, for its runs and its output.
    """

    def __init__(self, arguments: Sequence[str], folder: Path) -> None:
        self._errors = folder / "stderr.txt"
        environment = {name: value for name, value in os.environ.items() if name not in _SLURM_TASK}
        with (folder / "stdout.txt").open("ab") as output, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [*PROGRAM, *arguments, f"--trainer.default_root_dir={folder}", "--resume", "auto"],
                stdin=subprocess.PIPE,  # closes when this process ends
                stdout=output,
                stderr=errors,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the worker only, which then stops its trial
            )

    def __enter__(self) -> "TrialProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the process save and end; kill it if it does not."""
        if self.wait(0) is None:
            self._process.terminate()
            if self.wait(STOP_PATIENCE) is None:
                self._process.kill()
                self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self, seconds: float) -> int | None:
        """Return the exit status, negative for a signal; None if the process has not ended within this time."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def error_message(self) -> str:
        """Return why the process has failed: its own error message, or else the last line of its stderr."""
        lines = [line.strip() for line in self._errors.read_text(errors="replace").splitlines() if line.strip()]
        ours = [line for line in lines if line.startswith("lightning-cnn: ")]
        message = [*lines, *ours][-1].removeprefix("lightning-cnn: ").removeprefix("error: ") if lines else ""
        if (status := self._process.returncode) >= 0:
            return message or "no message on stderr"
        memory = " (perhaps out of memory)" if status == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-status).name}{memory}" + (f": {message}" if message else "")


def newest_run(folder: Path) -> Run | None:
    """Return the newest run in the folder of a trial that has started."""
    runs = [run for path in folder.glob("*/version_*") if (run := Run(path)).config_file.is_file()]
    return max(runs, key=lambda run: int(run.folder.name.removeprefix("version_")), default=None)
