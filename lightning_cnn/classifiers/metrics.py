"""Loss, accuracy and other metrics of one stage, updated without waiting for the device at every batch."""

import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, cast

from torch import Tensor, arange, cat, eye, float32, nn, promote_types
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from lightning_cnn.errors import UserError
from lightning_cnn.text import in_one_line

#: Builds a metric from the number of classes, for example `torchmetrics.classification.MulticlassF1Score`.
MetricCallable = Callable[[int], Metric]

#: Batches per update of the metrics: an update costs the same for one batch as for many.
_BATCHES_PER_UPDATE = 50


class WeightedMean(MeanMetric):
    """The weighted mean of values; NaN and infinite values show in it.

    torchmetrics 1.9 ignores weights where it does not look for such values, which would wait for the device.
    """

    def update(self, value: Tensor, weight: Tensor) -> None:  # type: ignore[override]  # both are always given
        """Add values of the shape of their weights."""
        self.mean_value += (value * weight).to(self.dtype).sum()
        self.weight += weight.to(self.dtype).sum()


class StageMetrics(nn.Module):
    """Mean loss, micro accuracy and other metrics over all images, for any batch sizes.

    Args:
        num_classes: Number of classes, at least 2.
        others: Other metrics by name.

    Raises:
        ValueError: If one of them has an invalid name.
        UserError: If one cannot be built, or is not a number for logits and targets.

    Example:
        >>> from torch import tensor
        >>> metrics = StageMetrics(num_classes=2)
        >>> metrics.add(tensor(0.5), logits=tensor([[2.0, 1.0], [0.0, 3.0]]), targets=tensor([0, 0]))
        >>> metrics.flush()
        >>> metrics.loss.compute(), metrics.acc.compute()
        (tensor(0.5000), tensor(0.5000))
    """

    def __init__(self, num_classes: int, others: Mapping[str, MetricCallable] | None = None) -> None:
        for name in others or {}:
            if name in ("loss", "acc") or not name.replace(" ", "_").isidentifier():
                raise ValueError(f"metrics must have names of letters, digits and _, not loss or acc, got {name!r}")
        super().__init__()
        self.loss = WeightedMean(nan_strategy="disable")
        self.acc = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        self._others = nn.ModuleDict({name: _built(name, build, num_classes) for name, build in (others or {}).items()})
        #: Losses of batches that the metrics do not have yet, with the number of images, or their weight.
        self.pending_losses: list[tuple[Tensor, int | Tensor]] = []
        self._logits: list[tuple[Tensor, Tensor]] = []

    @property
    def others(self) -> dict[str, Metric]:
        """The metrics besides loss and accuracy, by name."""
        return cast(dict[str, Metric], dict(self._others.items()))

    @property
    def named(self) -> dict[str, Metric]:
        """All metrics by name: `loss`, `acc` and the others."""
        return {"loss": self.loss, "acc": self.acc, **self.others}

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor, weight: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            loss: Mean over the batch.
            logits: `(B, num_classes)`.
            targets: `(B,)`; an empty batch, of a rank that has fewer, is skipped.
            weight: Sum of the weights of the images in the loss; by default each has the weight 1.
        """
        if not len(targets):
            return
        self.pending_losses.append((loss.detach(), len(targets) if weight is None else weight))
        self._logits.append((logits.detach(), targets))
        if len(self.pending_losses) == _BATCHES_PER_UPDATE:
            self.flush()

    def flush(self) -> None:
        """Update all metrics with the batches that are pending."""
        if self.pending_losses:
            values = [
                loss.expand(weight) if isinstance(weight, int) else loss.view(1) for loss, weight in self.pending_losses
            ]
            weights = [loss.new_ones(w) if isinstance(w, int) else w.view(1) for loss, w in self.pending_losses]
            self.loss.update(cat(values), cat(weights))
            self.pending_losses.clear()
        self._flush_acc()

    def fill_empty_lists(self, num_classes: int) -> None:
        """Put tensors without images into empty lists of the other metrics, as on a rank that has fewer batches.

        Ranks gather the lists of a metric together, and one with an empty list would not take part.
        """
        for metric in self.others.values():
            if metric.update_called:
                continue
            example = deepcopy(metric)
            example.update(eye(num_classes, device=self.loss.device), arange(num_classes, device=self.loss.device))
            for name, values in example.metric_state.items():
                if isinstance(values, list):
                    setattr(metric, name, [value[:0] for value in values])

    def _flush_acc(self) -> None:
        if self._logits:
            logits, targets = map(cat, zip(*self._logits, strict=True))
            self.acc.update(logits, targets)
            for metric in self.others.values():
                # With the same softmax, but never all from 0 to 1: torchmetrics would take them for probabilities.
                metric.update(logits.log_softmax(dim=1, dtype=promote_types(logits.dtype, float32)), targets)
            self._logits.clear()

    def reset(self) -> None:
        """Discard all batches."""
        for metric in self.named.values():
            metric.reset()
        self.pending_losses.clear()
        self._logits.clear()

    def state(self) -> dict[str, Any]:
        """Return the state of this rank, as tensors and plain types.

        Pending losses stay pending, because the sum of floats depends on the order in which they are added.
        """
        self._flush_acc()
        return {
            "loss": deepcopy(self.loss.metric_state),
            "acc": deepcopy(self.acc.metric_state),
            "others": {name: deepcopy(metric.metric_state) for name, metric in self.others.items()},
            "losses": [(loss.clone(), weight) for loss, weight in self.pending_losses],
        }


def _built(name: str, build: MetricCallable, num_classes: int) -> Metric:
    """Return a metric, and refuse one that cannot be logged; it is tried with a batch of two images."""
    try:
        metric = build(num_classes)
        trial = deepcopy(metric)
        with warnings.catch_warnings(action="ignore"):  # that there are not images of all classes
            trial.update(eye(2, num_classes), arange(2))
            value = trial.compute()
    except Exception as error:  # whatever code of the user's own raises
        raise UserError(
            f"--model.metrics.{name}: must be a metric for logits (B, {num_classes}) and targets (B,), built from "
            f"num_classes, but raises {type(error).__name__}: {in_one_line(error)}"
        ) from error
    if not isinstance(value, Tensor) or value.numel() != 1:
        found = f"the shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise UserError(
            f"--model.metrics.{name}: must be one number, but {type(metric).__name__} has {found}; leave it out, or "
            "set its `average`"
        )
    return metric
