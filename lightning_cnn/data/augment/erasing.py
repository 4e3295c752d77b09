"""Augmentations that paint over a rectangle, so that no part of an image is enough to know it by."""

import math

import torch
from torch import Tensor

from lightning_cnn.data.augment.base import (
    Augmentation,
    below,
    require_at_least,
    require_between,
    uniform,
)


class Cutout(Augmentation):
    """Paint over a square whose middle is a random pixel, so that it may reach over the edge.

    DeVries and Taylor, "Improved regularization of convolutional neural networks with Cutout", 2017 (arXiv:1708.04552):
    16 pixels for CIFAR-10, 8 for CIFAR-100, together with crops and flips.

    Args:
        size: Side of the square in pixels, at least 1.
        value: Brightness that is painted, 0 to 255.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> augment = Cutout(size=8)
        >>> images = torch.full((64, 3, 32, 32), 255, dtype=torch.uint8)
        >>> augment(images, torch.rand(64, augment.num_random)).amin().item()
        0
    """

    num_random = 2  # row and column of the middle

    def __init__(self, size: int, value: int = 0) -> None:
        require_at_least(1, size=size)
        require_between(0, 255, value=value)
        super().__init__()
        self.size = size
        self.value = value

    def forward(self, images: Tensor, random: Tensor) -> Tensor:
        """Return augmented images of the same type and shape; see `Augmentation.forward`."""
        top = below(random[:, 0], images.shape[2]) - self.size // 2
        left = below(random[:, 1], images.shape[3]) - self.size // 2
        return _painted(images, (top, top + self.size), (left, left + self.size), self.value)


class RandomErasing(Augmentation):
    """Paint over a rectangle of random area, proportions and place, all of it inside the image.

    Zhong, Zheng, Kang, Li and Yang, "Random erasing data augmentation", AAAI 2020 (arXiv:1708.04896). A side that would
    be longer than the image's becomes the image's, where the paper draws again.

    Args:
        p: Probability, 0 to 1.
        scale: Least and greatest area, as shares of the image's; 0 to 1.
        ratio: Least and greatest height ÷ width, greater than 0; its logarithm is uniform.
        value: Brightness that is painted, 0 to 255.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> augment = RandomErasing(p=1)
        >>> images = torch.full((64, 3, 32, 32), 255, dtype=torch.uint8)
        >>> augment(images, torch.rand(64, augment.num_random)).amin().item()
        0
    """

    num_random = 5  # whether, area, proportions, row, column

    def __init__(
        self,
        p: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: int = 0,
    ) -> None:
        require_between(0, 1, p=p)
        require_between(0, 255, value=value)
        if not 0 <= scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale must be two numbers from 0 to 1 in ascending order, got {scale}")
        if not 0 < ratio[0] <= ratio[1] < math.inf:
            raise ValueError(f"ratio must be two numbers greater than 0 in ascending order, got {ratio}")
        super().__init__()
        self.p = p
        self.scale = scale
        self.ratio = ratio
        self.value = value

    def forward(self, images: Tensor, random: Tensor) -> Tensor:
        """Return augmented images of the same type and shape; see `Augmentation.forward`."""
        height, width = images.shape[2:]
        area = height * width * uniform(random[:, 1], *self.scale)
        ratio = uniform(random[:, 2], *map(math.log, self.ratio)).exp()
        rows = (area * ratio).sqrt().round().long().clamp(1, height) * (random[:, 0] < self.p)
        columns = (area / ratio).sqrt().round().long().clamp(1, width)
        top, left = below(random[:, 3], height - rows + 1), below(random[:, 4], width - columns + 1)
        return _painted(images, (top, top + rows), (left, left + columns), self.value)


def _painted(images: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor], value: int) -> Tensor:
    """Paint over the rows and columns from the first to before the last, each `(B,)`."""
    inside = []
    for dim, (first, last) in ((2, rows), (3, columns)):
        place = torch.arange(images.shape[dim], device=images.device)
        inside.append((place >= first[:, None]) & (place < last[:, None]))
    return images.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], value)  # (B, 1, H, W)
