"""Loss and accuracy of training, validation or test, counted without waiting for the device at every batch."""

from torch import Tensor, cat, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

#: Batches that are counted together, because counting costs the same for one as for many.
_TOGETHER = 50


class StageMetrics(nn.Module):
    """Mean loss and micro accuracy over all images that were counted, however they were batched.

    Args:
        num_classes: Number of classes, at least 2.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        # Neither looks at the values: that would wait for the device, and a loss that is no number shall be seen.
        self.loss = MeanMetric(nan_strategy="disable")
        self.acc = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Count a batch: its mean loss, logits `(B, num_classes)` and targets `(B,)`."""
        self._waiting.append((loss.detach(), logits.detach(), targets))
        if len(self._waiting) == _TOGETHER:
            self.settle()

    def settle(self) -> None:
        """Bring both metrics up to date."""
        if not self._waiting:
            return
        losses, logits, targets = zip(*self._waiting, strict=True)
        # One value for each image: a metric that does not look for NaN takes no weights either (torchmetrics 1.9).
        self.loss.update(cat([loss.expand(len(t)) for loss, t in zip(losses, targets, strict=True)]))
        self.acc.update(cat(logits), cat(targets))
        self._waiting.clear()
