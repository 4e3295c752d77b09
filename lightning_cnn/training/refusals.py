"""Settings of the trainer that are refused before it starts: out of range, or useless, or failing only later."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.callbacks import BatchSizeFinder
from torch import nn

from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.config.yaml import describe
from lightning_cnn.data import ImageDataModule
from lightning_cnn.errors import UserError

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
#: Values that need a package which Lightning does not install.
_PACKAGES = {
    ("precision", "transformer-engine"): "transformer_engine",
    ("accelerator", "tpu"): "torch_xla",
    ("strategy", "xla"): "torch_xla",
    ("strategy", "deepspeed"): "deepspeed",
    ("profiler", "xla"): "torch_xla",
}
_DURATION = re.compile(r"(?P<days>\d+):(?P<hours>\d\d):(?P<minutes>\d\d):(?P<seconds>\d\d)", re.ASCII)
#: Settings that decide together which devices and plugins there are.
_DEVICES = ("accelerator", "devices", "num_nodes", "strategy", "precision", "plugins")


def require_valid(trainer: Mapping[str, Any]) -> None:
    """Refuse values that are out of their range; values of a wrong type are left to the parser.

    Args:
        trainer: The settings of the trainer, as a tree.

    Raises:
        UserError: If a value is out of its range, or needs a package that is not installed.
    """
    for name, value in trainer.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and value < _LEAST.get(name, value):
            raise UserError(f"--trainer.{name} must be at least {_LEAST[name]}, got {value}")
        if name in _BATCHES and is_number:
            _require_batches(name, value)
        if (name == "max_time" and value is not None) or (
            name == "val_check_interval" and isinstance(value, str | dict)
        ):
            _require_duration(name, value)
        for (setting, choice), package in _PACKAGES.items():
            is_chosen = name == setting and str(value).lower().startswith(choice)
            if is_chosen and find_spec(package) is None:
                raise UserError(
                    f"--trainer.{name} {value} needs the package {package}, which is not installed; "
                    "install it, or choose another"
                )


def _require_batches(name: str, value: float) -> None:
    least = 1 if name == "val_check_interval" else 0
    if not (isinstance(value, float) and 0 <= value <= 1) and (value < least or value % 1):
        raise UserError(
            f"--trainer.{name} must be a number of batches, at least {least}, or a share of them, 0.0 to 1.0, "
            f"got {value}"
        )


def duration_units(value: object) -> dict[str, int] | None:
    """Return a duration in the form DD:HH:MM:SS as the arguments of a `timedelta`; None if it has another form."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return None if found is None else {unit: int(number) for unit, number in found.groupdict().items()}


def _require_duration(name: str, value: object) -> None:
    duration = timedelta()
    units = value if isinstance(value, dict) else duration_units(value)
    with suppress(TypeError, OverflowError):  # an unknown unit, or no number
        duration = timedelta(**(units or {}))
    if duration <= timedelta():
        raise UserError(
            f"--trainer.{name} {_shown(value)}: expected a duration greater than 0, as DD:HH:MM:SS, such as "
            "00:01:30:00, or as a mapping, such as '{hours: 1, minutes: 30}'"
        )


def naming_flags(message: str, trainer: Mapping[str, Any], always: bool = False) -> str:
    """Return a message of Lightning about the trainer, preceded by the flags of the settings that it is about.

    Args:
        message: The message.
        trainer: The settings of the trainer that were given, as a tree.
        always: Whether to name all settings of devices and plugins where the message names no setting.
    """
    named = [name for name in trainer if re.search(rf"\b{name}\b", message)]
    if always and not named:
        given = [name for name in _DEVICES if name in trainer]
        named = [name for name in given if str(trainer[name]) in message] or given
    flags = ", ".join(f"--trainer.{name} {_shown(trainer[name])}" for name in named)
    return f"{flags}: {message}" if flags else message


def _shown(value: object) -> str:
    """Return a value as it is given as a flag, in at most 80 characters."""
    return (value if isinstance(value, str) else json.dumps(value, default=describe))[:80]


def require_trainable(options: Namespace, model: ImageClassifier, datamodule: ImageDataModule, test: bool) -> None:
    """Refuse settings that cannot be used together.

    Args:
        options: The settings of the trainer, with its callbacks instantiated.
        model: The classifier to train.
        datamodule: The data to train on.
        test: Whether the best weights are tested afterwards.

    Raises:
        UserError: If nothing would be trained or tested, or settings cannot be used together.
    """
    if model.optimizer is None:
        raise UserError("--model.optimizer null: training needs an optimizer; choose one, for example Adam")
    for name in ("max_epochs", "max_steps", "limit_train_batches"):
        if options[name] == 0:
            raise UserError(f"--trainer.{name} 0 trains nothing; give more, or evaluate a checkpoint with `validate`")
    if test and options["barebones"]:
        raise UserError("--test true needs the best weights, and --trainer.barebones true saves none; leave out one")
    for name in ("enable_checkpointing", "limit_val_batches"):
        if test and options[name] is not None and not options[name]:
            raise UserError(
                f"--test true needs the best weights, which are not saved with --trainer.{name} "
                f"{str(options[name]).lower()}; leave out one of the two"
            )
    if datamodule.batch_size == 1 and any(isinstance(layer, nn.BatchNorm1d) for layer in model.modules()):
        raise UserError("--data.batch_size 1: batch normalisation needs several images in a batch; give at least 2")
    schedule = getattr(model.scheduler, "keywords", {})  # those of a functools.partial
    for callback in options["callbacks"] or []:
        if isinstance(callback, BatchSizeFinder) and "total_steps" in schedule and not schedule["total_steps"]:
            raise UserError(
                "BatchSizeFinder changes the number of steps, for which the schedule has been built already; set "
                "--data.batch_size instead, or leave the schedule out with --model.scheduler null"
            )
