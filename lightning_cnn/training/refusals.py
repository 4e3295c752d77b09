"""Settings of the trainer that are refused before it starts: useless, or failing only later."""

import os
import re
import socket
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from jsonargparse import Namespace
from lightning.fabric.plugins import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BackboneFinetuning, BatchSizeFinder, OnExceptionCheckpoint
from lightning.pytorch.plugins import DeepSpeedPrecision
from lightning.pytorch.strategies import DeepSpeedStrategy, ModelParallelStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.callbacks import Checkpoints
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.data import ImageDataModule
from lightning_cnn.environment import higher_rank
from lightning_cnn.errors import UserError, did_you_mean, reason
from lightning_cnn.training.trainer_values import shown

#: Settings that decide together which devices and plugins there are.
_DEVICES = ("accelerator", "devices", "num_nodes", "strategy", "precision", "plugins")


def require_processes(trainer: Trainer) -> None:
    """Refuse a trainer whose other processes nothing starts or supervises, or which takes itself for one of several.

    Raises:
        UserError: If the strategy is for notebooks, or the environment is not what a launcher sets.
    """
    launcher = trainer.strategy.launcher
    if type(launcher) is _MultiProcessingLauncher:
        raise UserError(
            f"--trainer.strategy with the start method {launcher._start_method} is for notebooks and scripts: its "
            "processes cannot be stopped and resumed from the command line; give ddp, which trains the same"
        )
    if trainer.world_size == 1 and (variable := higher_rank()):
        raise UserError(
            f"the environment variable {variable} says that this is one of several processes, but it is the only one; "
            f"unset {variable.partition('=')[0]}"
        )
    is_deepspeed = isinstance(trainer.strategy, DeepSpeedStrategy)
    if isinstance(trainer.strategy.precision_plugin, DeepSpeedPrecision) and not is_deepspeed:
        raise UserError(
            "--trainer.plugins DeepSpeedPrecision needs --trainer.strategy deepspeed; give it, or leave it out"
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
    if trainer.get("overfit_batches") and re.search(r"\blimit_(train|val)_batches\b", message):
        named = ["overfit_batches"]  # it replaces them
    if always and not named and "SLURM" not in message:
        given = [name for name in _DEVICES if name in trainer]
        named = [name for name in given if str(trainer[name]) in message] or given
    flags = ", ".join(f"--trainer.{name} {shown(trainer[name])}" for name in named)
    return f"{flags}: {message}" if flags else message


def require_same_images(checkpoint: Path, content: Mapping[str, Any], datamodule: ImageDataModule) -> None:
    """Refuse data of another shape, made one size in another way, or of another number of classes than was trained on.

    Args:
        checkpoint: The file.
        content: What `checkpoint.read` returns for it.
        datamodule: The data.

    Raises:
        UserError: If they differ; without it, the message would be about the shapes of weights.
    """
    settings, names = content.get("hyper_parameters", {}), ("num_classes", "in_channels", "image_size")
    trained = {name: tuple(v) if isinstance(v := settings.get(name), list) else v for name in names}
    given = {name: getattr(datamodule, name) for name in names}
    for name in names:
        if trained[name] not in (None, given[name]):
            raise UserError(
                f"{checkpoint} was trained with {name} {trained[name]}, but {datamodule.title} has {given[name]}; "
                "choose the data that it was trained on, or data of the same kind"
            )
    mode = (content[checkpoints.KEY].get("framing") or {}).get("mode")
    resize = getattr(datamodule, "resize", mode)
    if mode not in (None, resize):
        raise UserError(f"{checkpoint} was trained with --data.resize {mode}, but {resize} is given; leave it out")


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
    every, epochs = options["check_val_every_n_epoch"], options["max_epochs"]
    if test and every is not None and epochs is not None and 0 < epochs < every:
        raise UserError(
            f"--test true needs the best weights, but --trainer.check_val_every_n_epoch {every} validates none of "
            f"{epochs} epochs; give {epochs} at most"
        )
    if test and not datamodule.has_images("test"):
        raise UserError("--test true needs test images, but --data.test_size 0 sets none aside; leave out one of them")
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
