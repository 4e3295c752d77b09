"""Processes: one for each measurement, so that none warms the caches or fills the memory of the next."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lightning_cnn.errors import UserError

#: Where this package is: `fit` finds the callbacks of the benchmark there.
_ROOT = str(Path(__file__).parents[1])


class WorkerError(UserError):
    """A measurement failed; nothing is wrong with the command itself."""

    exit_status = 1


def call(function: str, **arguments: Any) -> Any:
    """Return what a function of this package returns when it is called in a new process.

    Args:
        function: The function as `module.function`, for example `plain.train`.
        arguments: The function's arguments, in what JSON can hold.

    Raises:
        WorkerError: If the process fails.
    """
    words = ["benchmarks.worker", function, json.dumps(arguments)]
    return json.loads(_run(words, function, 0).splitlines()[-1])


def command(*words: str, status: int = 0) -> float:
    """Run `lightning-cnn` with these words and return the seconds from the start of the process to its end.

    Raises:
        WorkerError: If its exit status is not `status`.
    """
    started = time.perf_counter()
    _run(["lightning_cnn", *words], f"lightning-cnn {words[0]}", status)
    return time.perf_counter() - started


def _run(words: list[str], name: str, status: int) -> str:
    """Run a module of Python and return what it printed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))}
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, env=environment)
    if done.returncode != status:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        why = lines[-1].strip() if lines else "it said nothing"
        raise WorkerError(f"the worker {name} ended with exit status {done.returncode}: {why}")
    return done.stdout


def say(text: str) -> None:
    """Tell whoever waits how far the benchmark is."""
    print(f"  {text}", file=sys.stderr, flush=True)
