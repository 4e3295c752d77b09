"""Batches of logits, and the metrics over them."""

import torch
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC, MulticlassF1Score

from lightning_cnn.classifiers.metrics import StageMetrics

#: Metrics besides loss and accuracy.
OTHERS = {
    "f1": lambda num_classes: MulticlassF1Score(num_classes, average="macro"),
    "balanced_accuracy": MulticlassAccuracy,  # macro is its default
    "auroc": MulticlassAUROC,  # keeps all logits, in lists of tensors
}


def batches(number: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Logits and targets of batches of 1 to 7 images."""
    generator = torch.Generator().manual_seed(number)
    sizes = [1 + i % 7 for i in range(number)]
    return [
        (torch.randn(size, 3, generator=generator), torch.randint(3, (size,), generator=generator)) for size in sizes
    ]


def counted(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> StageMetrics:
    metrics = StageMetrics(3)
    for logits, targets in pairs:
        metrics.add(functional.cross_entropy(logits, targets), logits, targets)
    metrics.flush()
    return metrics


def with_others(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> StageMetrics:
    metrics = StageMetrics(3, OTHERS)
    for logits, targets in pairs:
        metrics.add(functional.cross_entropy(logits, targets), logits, targets)
    return metrics


def over_all(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
    """The metrics of torchmetrics over all images at once."""
    logits, targets = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return {name: build(3)(logits, targets).item() for name, build in OTHERS.items()}


def values(metrics: StageMetrics) -> dict[str, float]:
    metrics.flush()
    return {name: metric.compute().item() for name, metric in metrics.others.items()}
