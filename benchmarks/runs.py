"""`fit` as a user gives it, in a run folder that is gone afterwards, and what its files say."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.process import WorkerError, command
from benchmarks.systems import BATCH_SIZE, SYSTEMS, WARM_UP_STEPS
from lightning_cnn.files import shipped_config


def fit_system(
    system: str, data_dir: str, allow_sample: bool, seed: int, limit_batches: int | None
) -> dict[str, float | str]:
    """Train a system for one epoch at batch size 64, with everything that a run does by default.

    Args:
        system: One of `SYSTEMS`.
        data_dir: The folder of the datasets.
        allow_sample: Whether the small sample will do.
        seed: The run's seed.
        limit_batches: Stop after so many batches; None takes all.

    Returns:
        What `timing.Timing` writes, the seconds of the whole process, those from its start to the end of the first
        step, and the precision that the run chose.
    """
    with tempfile.TemporaryDirectory(prefix="lightning-cnn-") as root:
        timing = Path(root) / "timing.json"
        started_at = time.time()
        process_seconds = command(
            *_fit(SYSTEMS[system], root, data_dir, allow_sample, seed, limit_batches),
            *("--data.batch_size", str(BATCH_SIZE), "--trainer.max_epochs", "1"),
            *("--trainer.devices", "1"),  # as many as the others use
            *("--trainer.callbacks+=benchmarks.timing.Timing", "--trainer.callbacks.file", str(timing)),
        )
        record: dict[str, float | str] = json.loads(timing.read_text())
        config = yaml.safe_load((_run_folder(root) / "config.yaml").read_text())
    return {
        **record,
        "process_seconds": process_seconds,
        "first_step_seconds": float(record["first_step_at"]) - started_at,
        "precision": config["trainer"]["precision"] or "32-true",
    }


def fit_steps(
    system: str,
    processes: int,
    batch_size: int,
    precision: str,
    accelerator: str,
    data_dir: str,
    allow_sample: bool,
    seed: int,
    limit_batches: int,
) -> dict[str, Any]:
    """Train a system for some steps in one or more processes, and return what `steps.Steps` writes of them.

    Args:
        system: One of `SYSTEMS`.
        processes: How many, each on a GPU of its own, or on its share of the processor's cores.
        batch_size: Images per step of each process.
        precision: Of `fit`; with `auto` the run chooses.
        accelerator: Of `fit`, for example `cpu`.
        data_dir: The folder of the datasets.
        allow_sample: Whether the small sample will do.
        seed: The run's seed.
        limit_batches: How many steps to time.

    Raises:
        WorkerError: If the dataset is too small for a step to be timed.
    """
    with tempfile.TemporaryDirectory(prefix="lightning-cnn-") as root:
        steps = Path(root) / "steps.json"
        command(
            *_fit(SYSTEMS[system], root, data_dir, allow_sample, seed, WARM_UP_STEPS + limit_batches + 1),
            *("--data.batch_size", str(batch_size), "--trainer.max_epochs", "1", "--trainer.precision", precision),
            *("--trainer.accelerator", accelerator, "--trainer.devices", str(processes)),
            *("--trainer.strategy", "ddp" if processes > 1 else "auto"),
            *("--trainer.limit_val_batches", "0", "--plots.enabled", "false", "--dashboard.enabled", "false"),
            *("--trainer.callbacks+=benchmarks.steps.Steps", "--trainer.callbacks.file", str(steps)),
        )
        if not steps.is_file():
            raise WorkerError(
                f"there are too few images for {processes} processes with {batch_size} each at every step"
            )
        record: dict[str, Any] = json.loads(steps.read_text())
    return record


def fit_and_test(
    config: str, data_dir: str, allow_sample: bool, seed: int, limit_batches: int | None
) -> dict[str, float]:
    """Train with a config, test the best checkpoint in the same process, and return seconds and test accuracy.

    Args:
        config: A config that ships with the package, for example `mnist/fast.yaml`.
        data_dir: The folder of the datasets.
        allow_sample: Whether the small sample will do.
        seed: The run's seed.
        limit_batches: Stop an epoch and the test after so many batches; None takes all.
    """
    with tempfile.TemporaryDirectory(prefix="lightning-cnn-") as root:
        test = ["--test", "true"]
        if limit_batches is not None:
            test += ["--trainer.limit_test_batches", str(limit_batches)]
        seconds = command(*_fit(config, root, data_dir, allow_sample, seed, limit_batches), *test)
        metrics = json.loads((_run_folder(root) / "test_metrics.json").read_text())
    return {"seconds": seconds, "test_acc": metrics["test/acc"]}


def _fit(config: str, root: str, data_dir: str, allow_sample: bool, seed: int, limit_batches: int | None) -> list[str]:
    words: dict[str, Any] = {
        "--config": shipped_config(config),
        "--seed_everything": seed,
        "--data.data_dir": data_dir,
        "--data.allow_sample": str(allow_sample).lower(),
        "--trainer.default_root_dir": root,
    }
    if limit_batches is not None:
        words |= {"--trainer.limit_train_batches": limit_batches, "--trainer.limit_val_batches": limit_batches}
    return ["fit", *(str(word) for pair in words.items() for word in pair)]


def _run_folder(root: str) -> Path:
    (folder,) = Path(root).glob("*/version_0")
    return folder
