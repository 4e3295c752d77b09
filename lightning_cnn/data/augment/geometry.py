"""Augmentations that move pixels. Whole pixels are moved exactly; a rotation or a zoom is interpolated once."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from lightning_cnn.data.augment.base import Augmentation, below, per_image, require_at_least, require_between
from lightning_cnn.errors import UserError


class RandomCrop(Augmentation):
    """Pad the image on all sides and cut an image of the old size out of it, at random: a shift by whole pixels.

    He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016, with 4 pixels of zeros on
    CIFAR-10; Jordan (arXiv:2404.00498) with reflection.

    Args:
        padding: The image is shifted by up to this many pixels up or down and left or right; at least 0.
        padding_mode: What comes in at the side: `reflect` mirrors the image without repeating its outermost pixels,
            `zeros` is black.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> augment = RandomCrop(padding=4)
        >>> images = torch.zeros(64, 3, 32, 32, dtype=torch.uint8)
        >>> augment(images, torch.rand(64, augment.num_random)).shape
        torch.Size([64, 3, 32, 32])
    """

    num_random = 2  # shifts down and right

    def __init__(self, padding: int = 4, padding_mode: Literal["reflect", "zeros"] = "reflect") -> None:
        require_at_least(0, padding=padding)
        if padding_mode not in ("reflect", "zeros"):
            raise ValueError(f"padding_mode must be reflect or zeros, got {padding_mode}")
        super().__init__()
        self.padding = padding
        self.padding_mode = padding_mode

    def forward(self, images: Tensor, random: Tensor) -> Tensor:
        """Return augmented images of the same type and shape; see `Augmentation.forward`.

        Raises:
            UserError: If the padding is as large as the image, which cannot be mirrored that far.
        """
        height, width = images.shape[2:]
        side, padding = min(height, width), self.padding
        if self.padding_mode == "reflect" and padding >= side:
            raise UserError(f"padding must be below the shorter side of the image, {side}, got {padding}")
        top, left = torch.split(below(random, 2 * padding + 1), 1, dim=1)
        rows = top + torch.arange(height, device=images.device)  # (B, H), of the padded image
        columns = left + torch.arange(width, device=images.device)
        if self.padding_mode == "zeros":
            images = functional.pad(images, [padding] * 4)
        else:  # torch has no reflection of integers, and the rows and columns alone are less to reflect
            rows, columns = _reflected(rows - padding, height), _reflected(columns - padding, width)
        places = (rows[:, :, None] * images.shape[3] + columns[:, None, :]).flatten(1)  # (B, H·W)
        pixels = images.flatten(2).gather(2, places[:, None].expand(-1, images.shape[1], -1))
        return pixels.reshape(*images.shape[:2], height, width)


def _reflected(places: Tensor, size: int) -> Tensor:
    """Return the rows or columns that are seen at places of which some are outside: 1 at −1, size − 2 at size."""
    return size - 1 - (size - 1 - places.abs()).abs()


class HorizontalFlip(Augmentation):
    """Mirror left and right; not for digits, letters or whatever else has a side.

    Args:
        p: Probability, 0 to 1.

    Raises:
        ValueError: If `p` is out of range.

    Example:
        >>> augment = HorizontalFlip(p=1)
        >>> augment(torch.tensor([[[[1, 2, 3]]]], dtype=torch.uint8), torch.rand(1, augment.num_random)).tolist()
        [[[[3, 2, 1]]]]
    """

    num_random = 1

    def __init__(self, p: float = 0.5) -> None:
        require_between(0, 1, p=p)
        super().__init__()
        self.p = p

    def forward(self, images: Tensor, random: Tensor) -> Tensor:
        """Return augmented images of the same type and shape; see `Augmentation.forward`."""
        return torch.where(per_image(random[:, 0] < self.p), images.flip(3), images)


class RandomRotation(Augmentation):
    """Rotate about the middle by a random angle (bilinear, zero padding).

    Args:
        degrees: The angle is uniform in ±`degrees`; 0 to 180.

    Raises:
        ValueError: If `degrees` is out of range.

    Example:
        >>> augment = RandomRotation(degrees=10)
        >>> images = torch.zeros(64, 3, 32, 32, dtype=torch.uint8)
        >>> augment(images, torch.rand(64, augment.num_random)).shape
        torch.Size([64, 3, 32, 32])
    """

    num_random = 1

    def __init__(self, degrees: float) -> None:
        require_between(0, 180, degrees=degrees)
        super().__init__()
        self.degrees = degrees

    def forward(self, images: Tensor, random: Tensor) -> Tensor:
        """Return augmented images of the same type and shape; see `Augmentation.forward`."""
        angle = math.radians(self.degrees) * (2 * random[:, 0] - 1)
        return _rotated(images, angle, torch.ones_like(angle))


class CropAndRotate(Augmentation):
    """Randomly crop the centre and resize it back, then rotate by a random angle, independently for each image.

    Both are one affine map, so each image is interpolated once (bilinear, zero padding).

    Args:
        crop_size: Shorter side of the centre crop in pixels, 1 to the shorter side of the image; the crop has the
            image's proportions, and is resized back to the full size.
        crop_probability: Probability of the crop, 0 to 1.
        max_degrees: The angle is uniform in ±`max_degrees`; 0 to 180.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> augment = CropAndRotate(crop_size=22)
        >>> images = torch.zeros(64, 1, 32, 32, dtype=torch.uint8)
        >>> augment(images, torch.rand(64, augment.num_random)).shape
        torch.Size([64, 1, 32, 32])
    """

    num_random = 2  # angle, and whether to crop

    def __init__(self, crop_size: int = 22, crop_probability: float = 0.1, max_degrees: float = 15.0) -> None:
        require_at_least(1, crop_size=crop_size)
        require_between(0, 1, crop_probability=crop_probability)
        require_between(0, 180, max_degrees=max_degrees)
        super().__init__()
        self.crop_size = crop_size
        self.crop_probability = crop_probability
        self.max_degrees = max_degrees

    def forward(self, images: Tensor, random: Tensor) -> Tensor:
        """Return augmented images of the same type and shape; see `Augmentation.forward`.

        Raises:
            UserError: If the crop is larger than the image.
        """
        side = min(images.shape[2:])
        if self.crop_size > side:
            raise UserError(f"crop_size must be at most the shorter side of the image, {side}, got {self.crop_size}")
        angle = math.radians(self.max_degrees) * (2 * random[:, 0] - 1)
        cropped = random[:, 1] < self.crop_probability
        return _rotated(images, angle, torch.where(cropped, self.crop_size / side, 1.0))


def _rotated(images: Tensor, angle: Tensor, visible: Tensor) -> Tensor:
    """Rotate images about the middle and zoom in, with one interpolation.

    Args:
        images: uint8, `(B, C, H, W)`.
        angle: Radians, `(B,)`.
        visible: The share of the side that is still seen, `(B,)`.
    """
    height, width = images.shape[2:]
    cos, sin, zero = visible * angle.cos(), visible * angle.sin(), torch.zeros_like(visible)
    # Inverse affine matrices (output to input), (B, 2, 3): a scaled rotation, in coordinates of −1 to 1 on either axis.
    x, y = torch.stack((cos, -sin * (height / width), zero), dim=1), torch.stack((sin * (width / height), cos, zero), 1)
    grid = functional.affine_grid(torch.stack((x, y), dim=1), list(images.shape), align_corners=False)
    moved = functional.grid_sample(images.to(grid.dtype), grid, align_corners=False)
    return moved.round_().to(images.dtype)
