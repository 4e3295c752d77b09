"""The arguments of `ImageClassifier` that describe its images: their statistics and their size."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

#: The longest side of images in pixels.
_MAX_SIDE = 4096


def per_channel(name: str, value: float | Sequence[float], in_channels: int) -> float | list[float]:
    """Return a statistic of the pixels as a number, or as a list with a number for each channel.

    Raises:
        ValueError: If a number is not finite, or their number is not that of the channels.
    """
    values = [*value] if isinstance(value, Sequence) else [value]
    if not all(map(math.isfinite, values)) or (isinstance(value, Sequence) and len(values) != in_channels):
        raise ValueError(f"{name} must be a number, or a list of {in_channels}, one for each channel, got {value}")
    return values if isinstance(value, Sequence) else value


def broadcastable(value: float | list[float]) -> Tensor:
    """Return a statistic of the pixels as a tensor that broadcasts over images `(B, C, H, W)`."""
    return torch.tensor(value).view(-1, 1, 1) if isinstance(value, list) else torch.tensor(value)


def height_and_width(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Return the height and the width of images.

    Raises:
        ValueError: If a side is below 1 or above 4096.
    """
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(f"image_size must be a side of at least 1 pixel, or height and width, got {image_size}")
    if max(sides) > _MAX_SIDE:
        raise ValueError(f"image_size must be at most {_MAX_SIDE} pixels, got {image_size}")
    return sides
