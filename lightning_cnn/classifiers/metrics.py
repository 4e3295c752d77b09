"""Loss and accuracy of training, validation or test, updated without waiting for the device at every batch."""

from copy import deepcopy
from typing import Any

from torch import Tensor, cat, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

#: Batches per update of the metrics: an update costs the same for one batch as for many.
_BATCHES_PER_UPDATE = 50


class StageMetrics(nn.Module):
    """Mean loss and micro accuracy over all images, for any batch sizes.

    Args:
        num_classes: Number of classes, at least 2.

    Example:
        >>> from torch import tensor
        >>> metrics = StageMetrics(num_classes=2)
        >>> metrics.add(tensor(0.5), logits=tensor([[2.0, 1.0], [0.0, 3.0]]), targets=tensor([0, 0]))
        >>> metrics.flush()
        >>> metrics.loss.compute(), metrics.acc.compute()
        (tensor(0.5000), tensor(0.5000))
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        # Without checks of the values, which would wait for the device; a NaN or infinite loss shows in the mean.
        self.loss = MeanMetric(nan_strategy="disable")
        self.acc = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        self._losses: list[tuple[Tensor, int]] = []
        self._logits: list[tuple[Tensor, Tensor]] = []

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            loss: Mean over the batch.
            logits: `(B, num_classes)`.
            targets: `(B,)`; an empty batch, of a rank that has fewer, is skipped.
        """
        if not len(targets):
            return
        self._losses.append((loss.detach(), len(targets)))
        self._logits.append((logits.detach(), targets))
        if len(self._losses) == _BATCHES_PER_UPDATE:
            self.flush()

    def flush(self) -> None:
        """Update both metrics with the batches that are pending."""
        if self._losses:
            # One value per image: MeanMetric ignores weights with nan_strategy="disable" (torchmetrics 1.9).
            self.loss.update(cat([loss.expand(count) for loss, count in self._losses]))
            self._losses.clear()
        self._flush_acc()

    def _flush_acc(self) -> None:
        if self._logits:
            logits, targets = zip(*self._logits, strict=True)
            self.acc.update(cat(logits), cat(targets))
            self._logits.clear()

    def reset(self) -> None:
        """Discard all batches."""
        self.loss.reset()
        self.acc.reset()
        self._losses.clear()
        self._logits.clear()

    def state(self) -> dict[str, Any]:
        """Return the state of this rank, as tensors and plain types, for `merge`.

        Pending losses stay pending, because the sum of floats depends on the order in which they are added.
        """
        self._flush_acc()
        return {
            "loss": deepcopy(self.loss.metric_state),
            "acc": deepcopy(self.acc.metric_state),
            "losses": [(loss.clone(), count) for loss, count in self._losses],
        }

    def merge(self, state: dict[str, Any]) -> None:
        """Add the batches of another `state`."""
        device = self.loss.device
        for metric, incoming in ((self.loss, state["loss"]), (self.acc, state["acc"])):
            metric.merge_state({name: value.to(device) for name, value in incoming.items()})
            metric._update_count += 1  # not done by torchmetrics 1.9, whose `compute` then warns
        self._losses += [(loss.to(device), count) for loss, count in state["losses"]]
