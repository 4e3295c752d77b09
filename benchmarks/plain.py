"""The loop of a typical notebook: torchvision datasets, PIL transforms, a `DataLoader` and plain PyTorch in float32."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from lightning.pytorch.cli import instantiate_class
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms  # type: ignore[import-untyped]  # has no types

from benchmarks.device import best_device, now
from benchmarks.systems import BATCH_SIZE, EVAL_BATCH_SIZE, build, settings
from lightning_cnn import networks
from lightning_cnn.data.augment import CropAndRotate
from lightning_cnn.data.datamodules import IDXDataModule
from lightning_cnn.data.splits import number_of, stratified_split


def network(system: str) -> nn.Module:
    """Return the network of a system, with new weights, in float32 and NCHW."""
    module: nn.Module = getattr(networks, system)()
    return module


def optimizer(system: str, model: nn.Module) -> Optimizer:
    """Return the optimizer of a system's config, with the arguments given there and no others."""
    made: Optimizer = instantiate_class(model.parameters(), settings(system)["model"]["init_args"]["optimizer"])
    return made


def subsets(system: str, folder: str) -> tuple[Subset[Any], Subset[Any]]:
    """Return the training and the validation images of a system, the same images as those of `fit`.

    Args:
        system: One of `SYSTEMS`.
        folder: The folder of the uncompressed datasets.
    """
    classifier, datamodule = build(system, folder, allow_sample=False)
    assert isinstance(datamodule, IDXDataModule)
    tensor = [transforms.ToTensor(), transforms.Normalize(classifier.hparams["mean"], classifier.hparams["std"])]
    dataset = getattr(datasets, datamodule.facts.folder)
    train = dataset(folder, train=True, transform=transforms.Compose(_augmentation(datamodule.augment) + tensor))
    val = dataset(folder, train=True, transform=transforms.Compose(tensor))
    val_size = number_of(datamodule.val_size, 60_000) * len(train) // 60_000  # the same share of the small sample
    train_indices, val_indices = stratified_split(train.targets.numpy().astype(np.uint8), val_size)
    return Subset(train, train_indices.tolist()), Subset(val, val_indices.tolist())


def _augmentation(augment: object) -> list[Any]:
    """Return the transforms of PIL images that correspond to our augmentation."""
    if augment is None:
        return []
    assert isinstance(augment, CropAndRotate)
    crop = transforms.Compose([transforms.CenterCrop(augment.crop_size), transforms.Resize(28)])
    return [transforms.RandomApply([crop], augment.crop_probability), transforms.RandomRotation(augment.max_degrees)]


def batches(loader: DataLoader[Any], limit_batches: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of a loader, or the first few of them, on the device."""
    device = best_device()
    for images, targets in islice(loader, limit_batches):
        yield images.to(device), targets.to(device)


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader[Any], limit_batches: int | None) -> tuple[int, float]:
    """Return the number of images and the accuracy on them."""
    model.eval()
    correct, seen = 0, 0
    for images, targets in batches(loader, limit_batches):
        correct += (model(images).argmax(dim=1) == targets).sum().item()
        seen += len(targets)
    return seen, correct / seen


def train(system: str, folder: str, seed: int, limit_batches: int | None) -> dict[str, float]:
    """Train a system for one epoch and evaluate it.

    Args:
        system: One of `SYSTEMS`.
        folder: The folder of the uncompressed datasets.
        seed: Of weights, order and augmentation.
        limit_batches: Stop after so many batches; None takes all.

    Returns:
        The seconds from before the first training batch to after the evaluation, the numbers of images, and the
        metrics.
    """
    torch.manual_seed(seed)
    train_set, val_set = subsets(system, folder)
    train_loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=EVAL_BATCH_SIZE)
    model = network(system).to(best_device())
    descent = optimizer(system, model)

    started = now()
    model.train()
    running_loss, correct, seen = 0.0, 0, 0
    for images, targets in batches(train_loader, limit_batches):
        descent.zero_grad()
        logits = model(images)
        loss = functional.cross_entropy(logits, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        descent.step()
        running_loss += loss.item() * len(targets)
        correct += (logits.argmax(dim=1) == targets).sum().item()
        seen += len(targets)
    val_seen, val_acc = evaluate(model, val_loader, limit_batches)
    seconds = now() - started

    metrics = {"train_loss": running_loss / seen, "train_acc": correct / seen, "val_acc": val_acc}
    return {"seconds": seconds, "train_images": seen, "val_images": val_seen, **metrics}


def read_images(system: str, folder: str, seed: int, limit_batches: int | None) -> dict[str, float]:
    """Make the training images of a system ready for its network, and return the seconds and the number of images."""
    torch.manual_seed(seed)
    train_set, _ = subsets(system, folder)
    loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True)
    started = now()
    seen = sum(len(targets) for _, targets in batches(loader, limit_batches))
    return {"seconds": now() - started, "train_images": seen}
