"""Values of the trainer's settings: their ranges, and the packages that they need, which no type can say."""

import json
import os
import re
import sys
from collections.abc import Mapping
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

import torch

from lightning_cnn.config.class_settings import is_class
from lightning_cnn.config.yaml import describe
from lightning_cnn.environment import torchrun_world
from lightning_cnn.errors import UserError
from lightning_cnn.threads import available_cores

#: The least value of a setting.
_LEAST = {
    "max_epochs": -1,
    "min_epochs": 0,
    "max_steps": -1,
    "min_steps": 0,
    "num_nodes": 1,
    "fast_dev_run": 0,
    "num_sanity_val_steps": -1,
    "log_every_n_steps": 0,
    "check_val_every_n_epoch": 1,
    "accumulate_grad_batches": 1,
    "gradient_clip_val": 0,
    "reload_dataloaders_every_n_epochs": 0,
}
#: Settings that are a number of batches, or a share of them.
_BATCHES = (
    *(f"limit_{stage}_batches" for stage in ("train", "val", "test", "predict")),
    "overfit_batches",
    "val_check_interval",
)
#: How names and classes begin that need a package which Lightning does not install.
_PACKAGES = {
    ("precision", "transformer-engine"): "transformer_engine",
    ("accelerator", "tpu"): "torch_xla",
    ("accelerator", "xla"): "torch_xla",
    **{("strategy", name): "torch_xla" for name in ("xla", "single_xla", "single_tpu", "singledevicexla")},
    ("strategy", "deepspeed"): "deepspeed",
    ("profiler", "xla"): "torch_xla",
    ("plugins", "bitsandbytes"): "bitsandbytes",
    ("plugins", "transformerengine"): "transformer_engine",
    ("plugins", "mpi"): "mpi4py",
    ("plugins", "xla"): "torch_xla",
    ("logger", "wandb"): "wandb",
    ("logger", "mlflow"): "mlflow",
    ("logger", "comet"): "comet_ml",
    ("callbacks", "rich"): "rich",
}
#: Processes on the cores of one machine that are always allowed, to try a run with several of them out, …
_FEW_PROCESSES = 4
#: … and the most that are allowed where a launcher starts them, or Lightning counts the devices itself.
_MOST_PROCESSES = 1024
_DURATION = re.compile(r"(?P<days>\d+):(?P<hours>\d\d):(?P<minutes>\d\d):(?P<seconds>\d\d)", re.ASCII)


def require_valid(trainer: Mapping[str, Any]) -> None:
    """Refuse values that are out of their range; values of a wrong type are left to the parser.

    Args:
        trainer: The settings of the trainer, as a tree.

    Raises:
        UserError: If a value is out of its range, or needs a package that is not installed.
    """
    _require_devices(trainer)
    accelerator = trainer.get("accelerator")
    if accelerator in ("gpu", "cuda", "mps") and not torch.accelerator.is_available():
        raise UserError(f"--trainer.accelerator {accelerator}: PyTorch finds none on this machine; leave it out")
    for name, value in trainer.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and value < _LEAST.get(name, value):
            raise UserError(f"--trainer.{name} must be at least {_LEAST[name]}, got {value}")
        if name in _BATCHES and is_number:
            _require_batches(name, value)
        is_duration = name == "max_time" or (name == "val_check_interval" and not is_number)
        if is_duration and value is not None:
            _require_duration(name, value)
        for item in value if isinstance(value, list) else [value]:
            _require_package(name, item)


def _require_devices(trainer: Mapping[str, Any]) -> None:
    """Refuse more devices than the machine has: each is a process, and the first ones would use up its memory."""
    devices, accelerator = trainer.get("devices"), trainer.get("accelerator", "auto")
    number = len(devices) if isinstance(devices, list) else devices
    if not re.fullmatch(r"\d+", str(number)):  # `auto`, for example
        return
    if int(str(number)) == 0:
        raise UserError(f"--trainer.devices {shown(devices)}: give at least 1, or auto")
    cores, gpus = available_cores(), torch.accelerator.device_count() if accelerator != "cpu" else 0
    most, has = _MOST_PROCESSES, ""
    if torchrun_world() is None and "SLURM_NTASKS" not in os.environ:
        if gpus:
            most, has = gpus, f"; this machine has {gpus}"
        elif accelerator in ("cpu", "auto"):
            most, has = max(cores, _FEW_PROCESSES), f" on the {cores} cores of this machine"
    if int(str(number)) > most:
        raise UserError(f"--trainer.devices {shown(devices)}: give at most {most}{has}, or auto")


def _require_package(name: str, value: object) -> None:
    text = str(value["class_path"] if isinstance(value, dict) and is_class(value) else value).rpartition(".")[2]
    for (setting, start), package in _PACKAGES.items():
        if (
            name == setting
            and text.lower().startswith(start)
            and package not in sys.modules
            and find_spec(package) is None
        ):
            raise UserError(
                f"--trainer.{name} {text} needs the package {package}, which is not installed; install it, or choose "
                "another"
            )


def _require_batches(name: str, value: float) -> None:
    least = 1 if name == "val_check_interval" else 0
    if not (isinstance(value, float) and 0 <= value <= 1) and (value < least or value % 1):
        raise UserError(
            f"--trainer.{name} must be a number of batches, at least {least}, or a share of them, 0.0 to 1.0, "
            f"got {value}"
        )


def duration_text(value: object) -> str | None:
    """Return a duration, in any form that the Trainer takes, as DD:HH:MM:SS in whole seconds; None if it is invalid.

    The parser takes a mapping for text, and reads text that does not begin with 0 as a number by sixties.

    Example:
        >>> duration_text({"hours": 30}), duration_text("12:00:00:00"), duration_text("1h")
        ('01:06:00:00', '012:00:00:00', None)
    """
    units = value
    if isinstance(value, str) and (found := _DURATION.fullmatch(value)):
        units = {unit: int(number) for unit, number in found.groupdict().items()}
    if not isinstance(units, dict):
        return None
    try:
        duration = timedelta(**units)
    except (TypeError, ValueError, OverflowError):  # an unknown unit, or no number, as NaN
        return None
    minutes, seconds = divmod(duration.seconds + bool(duration.microseconds), 60)
    return f"0{duration.days}:{minutes // 60:02}:{minutes % 60:02}:{seconds:02}" if duration > timedelta() else None


def _require_duration(name: str, value: object) -> None:
    if duration_text(value) is None:
        raise UserError(
            f"--trainer.{name} {shown(value)}: expected a duration greater than 0, as DD:HH:MM:SS, such as "
            "00:01:30:00, or as a mapping, such as '{hours: 1, minutes: 30}'"
        )


def shown(value: object) -> str:
    """Return a value as it is given as a flag, in at most 80 characters."""
    return (value if isinstance(value, str) else json.dumps(value, default=describe))[:80]
