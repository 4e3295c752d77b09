"""The same training as `fit`, without anything around it: no trainer, no metrics, no logging, no checkpoints.

The precision, the memory format, the preprocessing, the augmentation and the optimizer are those of `fit`, so that the
difference to `fit` is what the framework and the records of a run cost.
"""

from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from benchmarks.device import best_device, now
from benchmarks.systems import BATCH_SIZE, EVAL_BATCH_SIZE, build
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.data.augment import Augmentation
from lightning_cnn.startup import tune_process

#: The two precisions that `fit` chooses from by itself.
PRECISIONS = ("32-true", "bf16-mixed")


def autocast(precision: str) -> torch.autocast:
    """Return the context in which the forward pass has this precision, one of `PRECISIONS`.

    Raises:
        ValueError: If it is none of them.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    return torch.autocast(best_device().type, torch.bfloat16, enabled=precision == "bf16-mixed")


def optimizer_of(classifier: ImageClassifier) -> Optimizer:
    """Return the optimizer that `fit` would use; a schedule does nothing within one epoch."""
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

    Args:
        system: One of `SYSTEMS`.
        data_dir: The folder of the datasets.
        allow_sample: Whether the small sample will do.
        precision: The one that `fit` chose, of `PRECISIONS`.
        seed: Of weights, order and augmentation.
        limit_batches: Stop after so many batches; None takes all.

    Returns:
        The seconds from before the first batch is taken to after the evaluation, the number of images trained on, and
        the validation accuracy.
    """
    torch.manual_seed(seed)
    tune_process()
    classifier, datamodule = build(system, data_dir, allow_sample)
    classifier.to(best_device())
    datamodule.setup("fit")
    train_set = _on_device(datamodule.train_set.images, datamodule.train_set.targets)
    val_set = _on_device(datamodule.val_set.images, datamodule.val_set.targets)
    optimizer = optimizer_of(classifier)

    started = now()
    train_images = _epoch(classifier, optimizer, *train_set, datamodule.augment, precision, limit_batches)
    val_images, val_acc = _evaluate(classifier, *val_set, precision, limit_batches)
    seconds = now() - started
    return {"seconds": seconds, "train_images": train_images, "val_images": val_images, "val_acc": val_acc}


def _on_device(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return images and targets where `fit` has them: a batch then has no way to go."""
    return images.to(best_device()), targets.to(best_device())


def _epoch(
    classifier: ImageClassifier,
    optimizer: Optimizer,
    images: Tensor,
    targets: Tensor,
    augment: Augmentation | None,
    precision: str,
    limit_batches: int | None,
) -> int:
    """Train on all images in random order, and return how many they were."""
    classifier.train()
    train_images = 0
    order = torch.randperm(len(targets)).to(targets.device)
    for indices in torch.split(order, BATCH_SIZE)[:limit_batches]:
        batch = images.index_select(0, indices)
        if augment is not None:
            batch = augment(batch, torch.rand(len(batch), augment.num_random, device=batch.device))
        step(classifier, optimizer, batch, targets.index_select(0, indices), precision)
        train_images += len(indices)
    return train_images


@torch.inference_mode()
def _evaluate(
    classifier: ImageClassifier, images: Tensor, targets: Tensor, precision: str, limit_batches: int | None
) -> tuple[int, float]:
    """Return the number of images looked at and the accuracy on them."""
    classifier.eval()
    correct = torch.zeros((), dtype=torch.int64, device=targets.device)
    val_images = 0
    batches = zip(torch.split(images, EVAL_BATCH_SIZE), torch.split(targets, EVAL_BATCH_SIZE), strict=True)
    for batch, answers in islice(batches, limit_batches):
        with autocast(precision):
            logits = classifier(batch)
        correct += (logits.argmax(dim=1) == answers).sum()
        val_images += len(answers)
    return val_images, correct.item() / val_images
