"""Losses that torch does not have: maps logits `(B, C)` and targets `(B,)` to a scalar."""

from torch import Tensor, nn
from torch.nn import functional

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
        """Return the mean over the batch."""
        log_probability = -functional.cross_entropy(logits, targets, reduction="none")
        return -((1 - log_probability.exp()) ** self.gamma * log_probability).mean()
