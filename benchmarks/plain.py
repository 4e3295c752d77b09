"""The loop of a notebook, written out: torchvision, PIL transforms, a DataLoader and plain PyTorch in fp32."""

from importlib import import_module
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import datasets, transforms  # type: ignore[import-untyped]  # has no types

from benchmarks.device import best_device, now
from benchmarks.systems import BATCH_SIZE, EVAL_BATCH_SIZE, build, settings
from lightning_cnn.data.augment import CropAndRotate
from lightning_cnn.data.base import stratified_split


def network(system: str) -> nn.Module:
    """Return the network of a system, freshly initialised, in fp32 and NCHW."""
    module: nn.Module = getattr(import_module("lightning_cnn.networks"), system)()
    return module


def optimizer(system: str, model: nn.Module) -> Optimizer:
    """Return the optimizer that the config of a system names, with its arguments and nothing else."""
    chosen = settings(system)["model"]["init_args"]["optimizer"]
    module, _, name = chosen["class_path"].rpartition(".")
    made: Optimizer = getattr(import_module(module), name)(model.parameters(), **chosen["init_args"])
    return made


def subsets(system: str, folder: str) -> tuple[Dataset[Any], Dataset[Any]]:
    """Return the images of a system that are trained on and validated on, the same ones as those of `fit`.

    Args:
        system: One of `SYSTEMS`.
        folder: The folder of the datasets, unpacked.
    """
    classifier, datamodule = build(system, folder, allow_sample=False)
    plain = [transforms.ToTensor(), transforms.Normalize(classifier.hparams["mean"], classifier.hparams["std"])]
    dataset = getattr(datasets, datamodule.facts.folder)
    train = dataset(folder, train=True, transform=transforms.Compose(_augmentation(datamodule.augment) + plain))
    val = dataset(folder, train=True, transform=transforms.Compose(plain))
    val_size = datamodule.val_size * len(train) // 60_000  # the sample keeps the proportion
    train_indices, val_indices = stratified_split(train.targets.numpy().astype(np.uint8), val_size)
    return Subset(train, train_indices.tolist()), Subset(val, val_indices.tolist())


def _augmentation(augment: object) -> list[Any]:
    """Return the transforms of PIL images that do what our augmentation does to tensors."""
    if augment is None:
        return []
    assert isinstance(augment, CropAndRotate)
    crop = transforms.Compose([transforms.CenterCrop(augment.crop_size), transforms.Resize(28)])
    return [transforms.RandomApply([crop], augment.crop_probability), transforms.RandomRotation(augment.max_degrees)]


def train(system: str, folder: str, seed: int, limit_batches: int | None) -> dict[str, float]:
    """Train a system for one epoch and evaluate it.

    Args:
        system: One of `SYSTEMS`.
        folder: The folder of the datasets, unpacked.
        seed: Of weights, order and augmentation.
        limit_batches: Stop after so many batches; None takes all.

    Returns:
        The seconds from before the first batch is fetched to after the evaluation, the number of images trained on,
        and the validation accuracy.
    """
    torch.manual_seed(seed)
    device = best_device()
    train_set, val_set = subsets(system, folder)
    train_loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=EVAL_BATCH_SIZE)
    model = network(system).to(device)
    descent = optimizer(system, model)

    started = now()
    model.train()
    running_loss, correct, seen = 0.0, 0, 0
    for batch in islice(train_loader, limit_batches):
        images, targets = batch[0].to(device), batch[1].to(device)
        descent.zero_grad()
        logits = model(images)
        loss = functional.cross_entropy(logits, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        descent.step()
        running_loss += loss.item() * len(targets)
        correct += (logits.argmax(dim=1) == targets).sum().item()
        seen += len(targets)

    model.eval()
    val_correct, val_seen = 0, 0
    with torch.no_grad():
        for batch in islice(val_loader, limit_batches):
            images, targets = batch[0].to(device), batch[1].to(device)
            val_correct += (model(images).argmax(dim=1) == targets).sum().item()
            val_seen += len(targets)
    seconds = now() - started

    return {
        "seconds": seconds,
        "train_images": seen,
        "train_loss": running_loss / seen,
        "train_acc": correct / seen,
        "val_images": val_seen,
        "val_acc": val_correct / val_seen,
    }
