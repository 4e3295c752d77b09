"""Loss and accuracy of training, validation or test, counted without waiting for the device at every batch."""

from copy import deepcopy
from typing import Any

from torch import Tensor, cat, device, nn
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
        self._losses: list[tuple[Tensor, int]] = []
        self._logits: list[tuple[Tensor, Tensor]] = []

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Count a batch: its mean loss, logits `(B, num_classes)` and targets `(B,)`."""
        if not len(targets):  # there were fewer batches than processes
            return
        self._losses.append((loss.detach(), len(targets)))
        self._logits.append((logits.detach(), targets))
        if len(self._losses) == _TOGETHER:
            self.settle()

    def settle(self) -> None:
        """Bring both metrics up to date."""
        if self._losses:
            # One value for each image: a metric that does not look for NaN takes no weights either (torchmetrics 1.9).
            self.loss.update(cat([loss.expand(count) for loss, count in self._losses]))
            self._losses.clear()
        self._settle_acc()

    def _settle_acc(self) -> None:
        if self._logits:
            logits, targets = zip(*self._logits, strict=True)
            self.acc.update(cat(logits), cat(targets))
            self._logits.clear()

    def state(self) -> dict[str, Any]:
        """Return all that was counted so far, as tensors and plain types.

        Losses that are not counted yet stay so: a sum of floats depends on which of them are added first.
        """
        self._settle_acc()
        return {
            "loss": deepcopy(self.loss.metric_state),
            "acc": deepcopy(self.acc.metric_state),
            "losses": [(loss.clone(), count) for loss, count in self._losses],
        }

    def merge(self, state: dict[str, Any]) -> None:
        """Count what another has counted, which is its `state`."""
        for metric, of_other in ((self.loss, state["loss"]), (self.acc, state["acc"])):
            metric.merge_state(_on(metric.device, of_other))
            metric._update_count += 1  # torchmetrics 1.9 does not, and warns that there is nothing to compute
        self._losses += [(loss.to(self.loss.device), count) for loss, count in state["losses"]]


def _on(where: device, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(where) for name, tensor in tensors.items()}
