"""Settings that `fit` refuses before it starts: nothing would be trained, or it would fail only later."""

from jsonargparse import Namespace
from lightning.pytorch.callbacks import BatchSizeFinder
from torch import nn

from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.data import ImageDataModule
from lightning_cnn.errors import UserError


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
    for name, least in (("accumulate_grad_batches", 1), ("gradient_clip_val", 0)):
        if options[name] is not None and options[name] < least:
            raise UserError(f"--trainer.{name} must be at least {least}, got {options[name]}")
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
