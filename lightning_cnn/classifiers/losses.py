"""Losses that torch does not have, class weights, and what a loss must be: logits and targets to a scalar."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_cnn.errors import UserError
from lightning_cnn.text import in_one_line

__all__ = ["FocalLoss"]


class FocalLoss(nn.Module):
    """Cross-entropy in which images that are classified well count less.

    Lin, Goyal, Girshick, He and Dollár, "Focal Loss for Dense Object Detection", arXiv:1708.02002, for many classes:
    the mean of −(1 − p)^γ · log p, where p is the probability of the true class.

    Args:
        gamma: The exponent γ, at least 0; 0 is cross-entropy.

    Raises:
        ValueError: If `gamma` is negative.

    Example:
        >>> from torch import tensor
        >>> FocalLoss(gamma=2.0)(tensor([[0.0, 0.0]]), tensor([0]))  # (1 − 0.5)² · log 2
        tensor(0.1733)
    """

    def __init__(self, gamma: float = 2.0) -> None:
        if gamma < 0:
            raise ValueError(f"gamma must be at least 0, got {gamma}")
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over the batch, a scalar, for logits `(B, C)` and targets `(B,)`, int64, from 0 to C − 1."""
        log_probability = -functional.cross_entropy(logits, targets, reduction="none")
        # 1 − p, but not 0: for an exponent below 1, the gradient there is infinite, and times 0 is NaN.
        rest = (-log_probability.expm1()).clamp_min(torch.finfo(log_probability.dtype).tiny)
        return -(rest**self.gamma * log_probability).mean()


def require_scalar(loss: nn.Module, logits: Tensor) -> None:
    """Refuse a loss that does not return a scalar for logits `(B, num_classes)` and targets.

    Raises:
        UserError: If it does not.
    """
    name = getattr(loss, "__name__", type(loss).__name__)
    try:
        with torch.no_grad():
            returned = loss(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))
    except Exception as error:  # whatever code of the user's own raises
        raise UserError(
            f"--model.loss {name} does not take logits (B, {logits.shape[1]}) and targets (B,): "
            f"{in_one_line(error)}; choose another loss"
        ) from error
    if not isinstance(returned, Tensor) or returned.shape != ():
        found = tuple(returned.shape) if isinstance(returned, Tensor) else type(returned).__name__
        raise UserError(f"--model.loss {name} must return a scalar, the mean over the batch, got {found}")


def require_class_weights(weights: str | Sequence[float] | None, num_classes: int) -> None:
    """Refuse weights that are neither `balanced` nor one for each class.

    Raises:
        ValueError: If they are not.
    """
    if weights is None or weights == "balanced":
        return
    if (
        isinstance(weights, str)
        or len(weights) != num_classes
        or not all(0 <= weight < math.inf for weight in weights)
        or not any(weights)
    ):
        raise ValueError(
            f"class_weights must be `balanced` or a list of {num_classes} numbers of at least 0, not all of them 0, "
            f"got {weights}"
        )


class ClassWeights:
    """Weights of the classes in the cross-entropy of training.

    The tensor of them is made once. It is not a buffer: these are averaged and swapped with the weights of the network.

    Args:
        weights: One for each class, at least 0.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self.weights = [*weights]
        self._tensor: Tensor | None = None

    def tensor(self, like: Tensor) -> Tensor:
        """Return the weights `(num_classes,)` on the device and in the precision of another tensor."""
        if self._tensor is None or (self._tensor.device, self._tensor.dtype) != (like.device, like.dtype):
            self._tensor = like.new_tensor(self.weights)
        return self._tensor

    def cross_entropy(self, logits: Tensor, targets: Tensor, weight: Tensor, label_smoothing: float) -> Tensor:
        """Return the weighted mean over a batch, a scalar; 0 for a batch without weight."""
        if 0 in self.weights and not weight[targets].any():
            return logits.sum() * 0  # the mean over no weight is NaN
        return functional.cross_entropy(logits, targets, weight=weight, label_smoothing=label_smoothing)


def balanced_weights(targets: Tensor, num_classes: int) -> list[float]:
    """Return weights with which each class has the same weight in all; 0 for a class without images."""
    counts = torch.bincount(targets, minlength=num_classes).tolist()
    present = sum(count > 0 for count in counts)
    return [len(targets) / (present * count) if count else 0.0 for count in counts]
