"""Settings of the trainer that are refused before it starts: out of range, or useless, or failing only later."""

import json
import os
import re
import socket
import sys
import warnings
from collections.abc import Mapping
from datetime import timedelta
from importlib.util import find_spec
from typing import Any, Literal

from jsonargparse import Namespace
from lightning.fabric.plugins import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BackboneFinetuning, BatchSizeFinder, OnExceptionCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from lightning_cnn.callbacks import Checkpoints
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.config.schema import is_class
from lightning_cnn.config.yaml import describe
from lightning_cnn.data import ImageDataModule
from lightning_cnn.environment import higher_rank
from lightning_cnn.errors import UserError, did_you_mean, reason

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
    **{("strategy", name): "torch_xla" for name in ("xla", "single_xla", "single_tpu", "singledevicexla")},
    ("strategy", "deepspeed"): "deepspeed",
    ("profiler", "xla"): "torch_xla",
    ("plugins", "bitsandbytes"): "bitsandbytes",
    ("plugins", "transformerengine"): "transformer_engine",
    ("plugins", "mpi"): "mpi4py",
    ("logger", "wandb"): "wandb",
    ("logger", "mlflow"): "mlflow",
    ("logger", "comet"): "comet_ml",
    ("callbacks", "devicestats"): "psutil",
    ("callbacks", "rich"): "rich",
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
        is_duration = name == "max_time" or (name == "val_check_interval" and not is_number)
        if is_duration and value is not None:
            _require_duration(name, value)
        for item in value if isinstance(value, list) else [value]:
            _require_package(name, item)


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
    except (TypeError, OverflowError):  # an unknown unit, or no number
        return None
    minutes, seconds = divmod(duration.seconds + bool(duration.microseconds), 60)
    return f"0{duration.days}:{minutes // 60:02}:{minutes % 60:02}:{seconds:02}" if duration > timedelta() else None


def _require_duration(name: str, value: object) -> None:
    if duration_text(value) is None:
        raise UserError(
            f"--trainer.{name} {_shown(value)}: expected a duration greater than 0, as DD:HH:MM:SS, such as "
            "00:01:30:00, or as a mapping, such as '{hours: 1, minutes: 30}'"
        )


def require_processes(trainer: Trainer) -> None:
    """Refuse a trainer whose other processes nothing starts, or which takes itself for one of several.

    Raises:
        UserError: If the environment is not what a launcher sets.
    """
    if trainer.world_size == 1 and (variable := higher_rank()):
        raise UserError(
            f"the environment variable {variable} says that this is one of several processes, but it is the only one; "
            f"unset {variable.partition('=')[0]}"
        )
    environment = getattr(trainer.strategy, "cluster_environment", None)  # only of strategies for several processes
    if environment is not None and "MASTER_PORT" in os.environ:
        _require_port(os.environ["MASTER_PORT"], environment)
    if trainer.world_size == 1 or not isinstance(environment, LightningEnvironment) or "MASTER_PORT" in os.environ:
        return
    if trainer.num_nodes > 1:
        raise UserError(
            f"--trainer.num_nodes {trainer.num_nodes}: nothing has started this process together with those of other "
            "nodes; use torchrun or srun on each node, or set MASTER_ADDR, MASTER_PORT and NODE_RANK there"
        )
    if environment.creates_processes_externally:
        raise UserError(
            f"the environment variable LOCAL_RANK={os.environ['LOCAL_RANK']} says that something has started all "
            "processes, but MASTER_PORT is not set; unset LOCAL_RANK, so that the trainer starts them"
        )


def _require_port(port: str, environment: ClusterEnvironment) -> None:
    """Refuse a port that rank 0 cannot listen on; where others start the processes, they have chosen it."""
    if not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"the environment variable MASTER_PORT must be a port, 1 to 65535, got {port!r}; unset it")
    if environment.creates_processes_externally or environment.node_rank() > 0:
        return
    with socket.socket() as listener:
        listener.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as torch: the port of a run that has just ended
        try:
            listener.bind(("", int(port)))
        except OSError as error:
            raise UserError(f"MASTER_PORT {port} cannot be used ({reason(error)}); choose another") from error


class MonitoredMetrics(Callback):
    """Refuses a callback of the user whose validation metric is not logged, before any training."""

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the monitored metrics with those that the sanity check has logged; `Checkpoints` does so itself.

        Raises:
            UserError: If one is not among them.
        """
        logged = sorted(trainer.callback_metrics)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # Lightning sets it from outside
            monitor = getattr(callback, "monitor", None)
            is_checked = not isinstance(callback, Checkpoints) and getattr(callback, "strict", True)
            if is_checked and isinstance(monitor, str) and monitor.startswith("val") and monitor not in logged:
                raise UserError(
                    f"--trainer.callbacks.monitor {monitor}: {type(callback).__name__} monitors a metric that is not "
                    f"logged; choose one of {', '.join(logged)}{did_you_mean(monitor, logged)}"
                )


def naming_flags(message: str, trainer: Mapping[str, Any], always: bool = False) -> str:
    """Return a message of Lightning about the trainer, preceded by the flags of the settings that it is about.

    Args:
        message: The message.
        trainer: The settings of the trainer that were given, as a tree.
        always: Whether to name all settings of devices and plugins where the message names no setting.
    """
    named = [name for name in trainer if re.search(rf"\b{name}\b", message)]
    if always and not named and "SLURM" not in message:
        given = [name for name in _DEVICES if name in trainer]
        named = [name for name in given if str(trainer[name]) in message] or given
    flags = ", ".join(f"--trainer.{name} {_shown(trainer[name])}" for name in named)
    return f"{flags}: {message}" if flags else message


def _shown(value: object) -> str:
    """Return a value as it is given as a flag, in at most 80 characters."""
    return (value if isinstance(value, str) else json.dumps(value, default=describe))[:80]


def require_batches(options: Namespace, stage: Literal["val", "test"]) -> None:
    """Refuse to evaluate no batches.

    Raises:
        UserError: If none are to be evaluated.
    """
    if options[f"limit_{stage}_batches"] == 0:
        raise UserError(f"--trainer.limit_{stage}_batches 0 evaluates nothing; give more, or leave it out")


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
    if test:
        require_batches(options, "test")
    for name in ("enable_checkpointing", "limit_val_batches"):
        if test and options[name] is not None and not options[name]:
            raise UserError(
                f"--test true needs the best weights, which are not saved with --trainer.{name} "
                f"{str(options[name]).lower()}; leave out one of the two"
            )
    is_parallelised = type(model).configure_model is not LightningModule.configure_model
    if isinstance(options["strategy"], ModelParallelStrategy) and not is_parallelised:
        raise UserError(
            "--trainer.strategy ModelParallelStrategy needs a classifier that parallelises itself in "
            "`configure_model`; choose another strategy, such as ddp"
        )
    if datamodule.batch_size == 1 and any(isinstance(layer, nn.BatchNorm1d) for layer in model.modules()):
        raise UserError("--data.batch_size 1: batch normalisation needs several images in a batch; give at least 2")
    schedule = getattr(model.scheduler, "keywords", {})  # those of a functools.partial
    for callback in options["callbacks"] or []:
        if isinstance(callback, BackboneFinetuning) and not isinstance(getattr(model, "backbone", None), nn.Module):
            raise UserError(
                f"BackboneFinetuning finetunes the module `backbone` of the model, which {type(model).__name__} has "
                "not; give a model that has one with --model"
            )
        if isinstance(callback, BatchSizeFinder) and "total_steps" in schedule and not schedule["total_steps"]:
            raise UserError(
                "BatchSizeFinder changes the number of steps, for which the schedule has been built already; set "
                "--data.batch_size instead, or leave the schedule out with --model.scheduler null"
            )


def require_new(trainer: Trainer) -> None:
    """Refuse a new run that would begin with a checkpoint of another: Lightning looks for one with this callback.

    Raises:
        UserError: If the folder of one of its checkpoint callbacks has a checkpoint.
    """
    if not any(isinstance(callback, OnExceptionCheckpoint) for callback in trainer.checkpoint_callbacks):
        return
    with warnings.catch_warnings(action="ignore"):  # that there is none
        found = trainer._checkpoint_connector._parse_ckpt_path(TrainerFn.FITTING, "last", True, True)
    if found is not None:
        raise UserError(
            f"OnExceptionCheckpoint would begin the new run with {found}, which is there from another; resume that "
            f"with `fit {found}`, or give the callback another dirpath"
        )
