"""What all augmentations have in common: random numbers as an argument, and the checks of theirs."""

from torch import Tensor, nn


class Augmentation(nn.Module):
    """Base class of augmentations of a batch of training images.

    The random numbers are an argument, so that an image is augmented in the same way in any process, and in a run
    resumed in mid-epoch.

    Attributes:
        num_random: Random numbers per image.
    """

    num_random: int

    def forward(self, images: Tensor, random: Tensor) -> Tensor:
        """Return augmented images of the same type and shape.

        Args:
            images: uint8, `(B, C, H, W)`.
            random: Uniform in [0, 1), float32, `(B, num_random)`, on the same device.
        """
        raise NotImplementedError


def require_between(low: float, high: float, **arguments: float) -> None:
    """Refuse the first of the arguments that is out of the range; NaN is out of any.

    Raises:
        ValueError: If there is one.
    """
    for name, value in arguments.items():
        if not low <= value <= high:
            raise ValueError(f"{name} must be between {low} and {high}, got {value}")


def require_at_least(low: float, **arguments: float) -> None:
    """Refuse the first of the arguments that is too small or not finite.

    Raises:
        ValueError: If there is one.
    """
    for name, value in arguments.items():
        if not low <= value < float("inf"):
            raise ValueError(f"{name} must be at least {low}, got {value}")


def uniform(random: Tensor, low: float, high: float) -> Tensor:
    """Map numbers that are uniform in [0, 1) to [low, high)."""
    return low + (high - low) * random


def below(random: Tensor, limit: int | Tensor) -> Tensor:
    """Map numbers that are uniform in [0, 1) to the integers 0 to `limit` − 1, with equal probability."""
    return (random * limit).long()


def per_image(values: Tensor) -> Tensor:
    """Shape one value per image, `(B,)`, so that it broadcasts over `(B, C, H, W)`."""
    return values[:, None, None, None]
