"""The process of a trial: `fit` in its own folder, started by a worker and ended with it.

Imports neither torch nor Optuna.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from lightning_cnn.run import Run
from lightning_cnn.sweep import trial_main

#: The value of a setting.
Value: TypeAlias = bool | int | float | str | None

#: Settings that the sweep gives to each trial itself.
RESERVED = ("config", "ckpt_path", "resume", "test", "overwrite", "print_config", "trainer.default_root_dir")
#: The program that trains; `fit` and its flags follow. It ends when its worker does.
PROGRAM = (sys.executable, "-m", trial_main.__name__)
#: Seconds for a stopped trial to save its checkpoint; less than a worker may miss heartbeats.
STOP_PATIENCE = 20
#: How much of the end of its stderr is searched for its error.
_MAX_BYTES = 2**20
#: Defaults of a trial; the user's flags come later and override them.
_DEFAULTS = ("--plots.enabled=false", "--trainer.enable_progress_bar=false")
#: Parts of a setting's name that can be left out.
_CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")
#: SLURM may start several workers as tasks of one job, but a trial is not one of these tasks.
_SLURM_TASK = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE")


def short_name(name: str) -> str:
    """Return the shortest name of a setting, without the keys that flags may leave out.

    Example:
        >>> short_name("model.init_args.optimizer.init_args.lr")
        'model.optimizer.lr'
    """
    return ".".join(part for part in name.split(".") if part not in _CLASS_KEYS)


def flag(name: str, value: Value) -> str:
    """Return a setting as a flag of the command line.

    Example:
        >>> flag("model.optimizer.nesterov", True)
        '--model.optimizer.nesterov=true'
    """
    text = {True: "true", False: "false", None: "null"}[value] if isinstance(value, bool | None) else str(value)
    return f"--{name}={text}"


def command(config: Path, flags: Sequence[str], settings: Mapping[str, Value]) -> list[str]:
    """Return the arguments of a trial's `fit`: first the flags of the user, then the settings of the trial."""
    chosen = [flag(name, value) for name, value in settings.items()]
    return ["fit", "--config", str(config), *_DEFAULTS, *flags, *chosen]


@contextmanager
def start(arguments: Sequence[str], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Start the process of a trial; it runs no longer than the block and the process of the worker.

    At the end of the block it gets SIGTERM and some seconds to save its checkpoint before it is killed.

    Args:
        arguments: What `command` returns.
        folder: The folder of the trial, for its runs and its output.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _SLURM_TASK}
    with (folder / "stdout.txt").open("ab") as output, (folder / "stderr.txt").open("wb") as errors:
        process = subprocess.Popen(
            [*PROGRAM, *arguments, f"--trainer.default_root_dir={folder}", "--resume", "auto"],
            stdin=subprocess.PIPE,  # closes when the worker's process ends
            stdout=output,
            stderr=errors,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the worker only, which then stops its trial
        )
    with process:  # closes its stdin, and waits
        try:
            yield process
        finally:
            process.terminate()  # does nothing if it has ended
            try:
                process.wait(STOP_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


def error_message(status: int, folder: Path) -> str:
    """Return why the process of a trial has failed: its own error message, or else the last line of its stderr.

    Args:
        status: Its exit status, negative for a signal.
        folder: The folder of the trial.
    """
    with (folder / "stderr.txt").open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _MAX_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("lightning-cnn: ")]
    message = [*lines, *errors][-1].removeprefix("lightning-cnn: ").removeprefix("error: ") if lines else ""
    if status >= 0:
        return message or "no message on stderr"
    memory = " (perhaps out of memory)" if status == -signal.SIGKILL else ""
    return f"killed by {signal.Signals(-status).name}{memory}" + (f": {message}" if message else "")


def newest_run(folder: Path) -> Run | None:
    """Return the newest run in the folder of a trial that has started."""
    runs = [run for path in folder.glob("*/version_*") if (run := Run(path)).config_file.is_file()]
    return max(runs, key=lambda run: int(run.folder.name.removeprefix("version_")), default=None)
