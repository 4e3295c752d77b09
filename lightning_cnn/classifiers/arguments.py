"""The arguments of `ImageClassifier` that describe its images, and whether data fits them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.errors import UserError

#: The longest side of images in pixels.
_MAX_SIDE = 4096


def statistics(
    mean: float | Sequence[float], std: float | Sequence[float], in_channels: int
) -> tuple[float | list[float], float | list[float]]:
    """Return mean and standard deviation of the pixels, each a number, or a list with a number for each channel.

    Raises:
        ValueError: If images cannot be normalised with them, or their number is not that of the channels.
    """
    found = per_channel("mean", mean, in_channels), per_channel("std", std, in_channels)
    means, deviations = (value if isinstance(value, list) else [value] for value in found)
    if min(deviations) <= 0:
        raise ValueError(f"std must be greater than 0, got {found[1]}")
    if not checkpoints.are_statistics(means, deviations):
        raise ValueError(f"mean and std must be those of pixels scaled to [0, 1], got {found[0]} and {found[1]}")
    return found


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


def require_classes(names: Sequence[str] | None, num_classes: int) -> None:
    """Refuse data with another number of classes than a model has, or whose classes cannot be told apart.

    Args:
        names: The class names of the data; None if it has none.
        num_classes: The number of classes of the model.

    Raises:
        UserError: If they do not fit.
    """
    if names is None:
        return
    checkpoints.require_class_names(names)
    if len(names) != num_classes:
        raise UserError(
            f"the model has num_classes {num_classes}, but the data has {len(names)} classes; "
            f"build it with num_classes={len(names)}"
        )


def require_shape(found: tuple[int, int, int] | None, expected: tuple[int, int, int]) -> None:
    """Refuse images of another shape than those a model is for; channels, height and width, None if it is not known.

    Raises:
        UserError: If it is another one.
    """
    if found is not None and tuple(found) != expected:  # data modules of users may have a list
        shapes = ("×".join(map(str, shape)) for shape in (expected, found))
        raise UserError(
            "the model is for images of {} (channels×height×width), but those of the data are {}; build it with "
            "in_channels={} and image_size={}".format(*shapes, found[0], found[1:])
        )
