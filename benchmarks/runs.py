"""Measurements of `fit`, run as a command like a user's, in a temporary run folder."""

import json
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.options import Options
from benchmarks.process import WorkerError, command
from benchmarks.systems import BATCH_SIZE, SYSTEMS, WARM_UP_STEPS
from lightning_cnn.files import shipped_config
from lightning_cnn.run import find_runs


def fit_system(options: Options, system: str, seed: int, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Train a system for one epoch at batch size 64, with all defaults of a run, and with environment variables.

    Returns:
        The record of `callbacks.Timing`, the seconds of the whole process, and those from its start to the end of the
        first step.
    """
    started_at = time.time()
    flags = {"--data.batch_size": BATCH_SIZE, "--trainer.max_epochs": 1, "--trainer.devices": 1}
    with _fit(options, SYSTEMS[system], seed, flags, "Timing", variables) as (root, seconds):
        record: dict[str, Any] = json.loads((root / "Timing.json").read_text())
    first_step_seconds = record["first_step_at"] - started_at
    return {**record, "process_seconds": seconds, "first_step_seconds": first_step_seconds}


def fit_steps(
    options: Options, system: str, seed: int, processes: int, batch_size: int, precision: str, accelerator: str
) -> dict[str, Any]:
    """Train a system for some steps in one or more processes, and return the record of `callbacks.Steps`.

    Args:
        options: `limit_batches` is the number of steps to time.
        system: One of `SYSTEMS`.
        seed: The seed of the run.
        processes: Their number; each has a GPU of its own, or its share of the CPU's cores.
        batch_size: Images per step and process.
        precision: As in `fit`, for example `auto`.
        accelerator: As in `fit`, for example `cpu`.

    Raises:
        WorkerError: If the dataset is too small to time a step.
    """
    options = replace(options, limit_batches=WARM_UP_STEPS + (options.limit_batches or 0) + 1)
    flags = {
        "--data.batch_size": batch_size,
        "--trainer.max_epochs": 1,
        "--trainer.precision": precision,
        "--trainer.accelerator": accelerator,
        "--trainer.devices": processes,
        "--trainer.strategy": "ddp" if processes > 1 else "auto",
        "--trainer.limit_val_batches": 0,
        "--plots.enabled": "false",
        "--dashboard.enabled": "false",
    }
    with _fit(options, SYSTEMS[system], seed, flags, callback="Steps") as (root, _):
        file = root / "Steps.json"
        if not file.is_file():
            raise WorkerError(f"there are too few images for {processes} processes and {batch_size} images per step")
        record: dict[str, Any] = json.loads(file.read_text())
    return record


def fit_and_test(options: Options, config: str, seed: int, epochs: int | None = None) -> dict[str, float]:
    """Train with a shipped config and test the best checkpoint in the same process.

    Args:
        options: Those of the benchmark.
        config: The file of the config.
        seed: The seed.
        epochs: How many epochs, without figures; None for those of the config.

    Returns:
        The test accuracy, and the seconds of the whole process: by the clock, and those of all cores together.
    """
    flags: dict[str, object] = {"--test": "true"}
    if epochs is not None:
        flags |= {"--trainer.max_epochs": epochs, "--plots.enabled": "false", "--dashboard.enabled": "false"}
    if options.limit_batches is not None:
        flags["--trainer.limit_test_batches"] = options.limit_batches
    before = _cpu_seconds()
    with _fit(options, config, seed, flags) as (root, seconds):
        cpu_seconds = _cpu_seconds() - before
        (run,) = find_runs(root)
        metrics = run.read_test_metrics() or {}
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "test_acc": metrics["test/acc"]}


def _cpu_seconds() -> float:
    """Return the seconds that the processes that have ended were computing for, those that they started included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _fit(
    options: Options,
    config: str,
    seed: int,
    flags: Mapping[str, object],
    callback: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[tuple[Path, float]]:
    """Run `fit`, and yield the folder of its run and the seconds that it took; the callback writes NAME.json there."""
    with tempfile.TemporaryDirectory(prefix="lightning-cnn-") as root:
        settings: dict[str, object] = {
            "--config": shipped_config(config),
            "--seed_everything": seed,
            "--data.data_dir": options.data_dir,
            "--data.allow_sample": str(options.allow_sample).lower(),
            "--trainer.default_root_dir": root,
        }
        if options.limit_batches is not None:
            settings |= dict.fromkeys(
                ("--trainer.limit_train_batches", "--trainer.limit_val_batches"), options.limit_batches
            )
        arguments = [str(part) for flag in {**settings, **flags}.items() for part in flag]
        if callback is not None:
            arguments.append(f"--trainer.callbacks+=benchmarks.callbacks.{callback}")
            arguments += ["--trainer.callbacks.file", f"{root}/{callback}.json"]
        yield Path(root), command("fit", *arguments, variables=variables)
