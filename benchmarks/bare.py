"""The computation of `fit` in a bare loop: no trainer, metrics, logs or checkpoints.

Precision, memory format, preprocessing, augmentation and optimizer are those of `fit`; the difference in time is the
cost of Lightning and of the run's files.
"""

from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from benchmarks.device import best_device, now
from benchmarks.systems import BATCH_SIZE, EVAL_BATCH_SIZE, build
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.data import ImageDataModule
from lightning_cnn.data.batches import Images
from lightning_cnn.startup import tune_process

#: The precisions that `fit` chooses from.
PRECISIONS = ("32-true", "bf16-mixed")


def autocast(precision: str) -> torch.autocast:
    """Return the context of a forward pass in this precision.

    Raises:
        ValueError: If it is not one of `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    return torch.autocast(best_device().type, torch.bfloat16, enabled=precision == "bf16-mixed")


def optimizer_of(classifier: ImageClassifier) -> Optimizer:
    """Return the optimizer of `fit`, without a learning rate schedule: it changes nothing within one epoch."""
    made = classifier.configure_optimizers()
    optimizer = made["optimizer"] if isinstance(made, dict) else made
    assert isinstance(optimizer, Optimizer)
    return optimizer


def step(classifier: ImageClassifier, optimizer: Optimizer, images: Tensor, targets: Tensor, precision: str) -> None:
    """Train on one batch of uint8 images `(B, 1, 28, 28)` and targets `(B,)`."""
    with autocast(precision):
        loss = functional.cross_entropy(classifier.network(classifier.preprocess(images)), targets)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def train(
    system: str, data_dir: str, allow_sample: bool, precision: str, seed: int, limit_batches: int | None
) -> dict[str, float]:
    """Train a system for one epoch and evaluate it.

    Arguments and result are those of `plain.train`, with the data of `fit` and one of `PRECISIONS`.
    """
    classifier, datamodule = _prepare(system, data_dir, allow_sample, seed)
    optimizer = optimizer_of(classifier)
    data, augment = datamodule.train_set, datamodule.augment

    started = now()
    classifier.train()
    train_images = 0
    order = torch.randperm(len(data)).to(data.targets.device)
    for indices in torch.split(order, BATCH_SIZE)[:limit_batches]:
        images = data.images.index_select(0, indices)
        if augment is not None:
            images = augment(images, torch.rand(len(images), augment.num_random, device=images.device))
        step(classifier, optimizer, images, data.targets.index_select(0, indices), precision)
        train_images += len(indices)
    val_images, val_acc = _evaluate(classifier, datamodule.val_set, precision, limit_batches)
    seconds = now() - started
    return {"seconds": seconds, "train_images": train_images, "val_images": val_images, "val_acc": val_acc}


def read_images(
    system: str, data_dir: str, allow_sample: bool, seed: int, limit_batches: int | None
) -> dict[str, float]:
    """Make the training images of a system ready for its network, and return the seconds and the number of images."""
    classifier, datamodule = _prepare(system, data_dir, allow_sample, seed)
    loader = datamodule.train_dataloader()
    started = now()
    seen = 0
    with torch.no_grad():
        for images, targets in islice(loader, limit_batches):
            classifier.preprocess(images)
            seen += len(targets)
    return {"seconds": now() - started, "train_images": seen}


def _prepare(system: str, data_dir: str, allow_sample: bool, seed: int) -> tuple[ImageClassifier, ImageDataModule]:
    """Return the classifier and the data module of a system, all on the device, as in `fit`."""
    torch.manual_seed(seed)
    tune_process()
    classifier, datamodule = build(system, data_dir, allow_sample)
    datamodule.setup("fit")
    device = best_device()
    for name in ("train_set", "val_set"):
        data: Images = getattr(datamodule, name)
        setattr(datamodule, name, Images(data.images.to(device), data.targets.to(device)))
    return classifier.to(device), datamodule


@torch.inference_mode()
def _evaluate(
    classifier: ImageClassifier, data: Images, precision: str, limit_batches: int | None
) -> tuple[int, float]:
    """Return the number of images and the accuracy on them."""
    classifier.eval()
    correct = torch.zeros((), dtype=torch.int64, device=data.targets.device)
    val_images = 0
    batches = zip(torch.split(data.images, EVAL_BATCH_SIZE), torch.split(data.targets, EVAL_BATCH_SIZE), strict=True)
    for images, targets in islice(batches, limit_batches):
        with autocast(precision):
            logits = classifier(images)
        correct += (logits.argmax(dim=1) == targets).sum()
        val_images += len(targets)
    return val_images, correct.item() / val_images
