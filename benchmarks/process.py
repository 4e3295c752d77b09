"""A process for each measurement, so that none depends on the caches or the memory of another."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_cnn.errors import UserError

#: The folder of this checkout.
ROOT = str(Path(__file__).parents[1])


class WorkerError(UserError):
    """A measurement failed."""

    exit_status = 1


def call(function: str, **arguments: Any) -> Any:
    """Return the result of a function of this package, called in a new process.

    Args:
        function: The function as `module.function`, for example `plain.train`.
        arguments: Its arguments, of types that JSON has.

    Raises:
        WorkerError: If the process fails.
    """
    return json.loads(_run(function, ["benchmarks.worker", function, json.dumps(arguments)]).splitlines()[-1])


def command(*arguments: str, status: int = 0, variables: Mapping[str, str] | None = None) -> float:
    """Run `lightning-cnn`, with environment variables, and return the seconds from its start to its end.

    Raises:
        WorkerError: If its exit status is not `status`.
    """
    started = time.perf_counter()
    _run(f"lightning-cnn {arguments[0]}", ["lightning_cnn", *arguments], status, variables)
    return time.perf_counter() - started


def _run(name: str, arguments: list[str], status: int = 0, variables: Mapping[str, str] | None = None) -> str:
    """Run a module of this checkout, from any current folder, and return its output."""
    variables = {**environment(), **(variables or {})}
    done = subprocess.run([sys.executable, "-P", "-m", *arguments], capture_output=True, text=True, env=variables)
    if done.returncode != status:
        lines = done.stderr.strip().splitlines() or ["no output on stderr"]
        raise WorkerError(f"the worker {name} ended with exit status {done.returncode}: {lines[-1].strip()}")
    return done.stdout


def environment() -> dict[str, str]:
    """Return the environment of processes that import this checkout, from any current folder."""
    path = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def progress(text: str) -> None:
    """Print a line about the progress of the benchmark on stderr."""
    print(f"  {text}", file=sys.stderr, flush=True)
