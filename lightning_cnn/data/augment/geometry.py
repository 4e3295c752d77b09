"""Training augmentation of a whole batch in one operation, on the device of the batch."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional


class Augmentation(nn.Module):
    """Base class of augmentations of a batch of training images.

    The random numbers are an argument, so that an image is augmented in the same way in any process, and in a run
    resumed in mid-epoch.

    Attributes:
        num_random: Random numbers per image.
    """

    num_random: ClassVar[int]

    def forward(self, images: Tensor, random: Tensor) -> Tensor:
        """Return augmented images of the same type and shape.

        Args:
            images: uint8, `(B, C, H, W)`.
            random: Uniform in [0, 1), float32, `(B, num_random)`, on the same device.
        """
        raise NotImplementedError


class CropAndRotate(Augmentation):
    """Randomly crop the centre and resize it back, then rotate by a random angle, independently for each image.

    Both are one affine map, so each image is interpolated once (bilinear, zero padding).

    Args:
        crop_size: Side of the centre crop in pixels, 1 to 28; it is resized back to the full side.
        crop_probability: Probability of the crop, 0 to 1.
        max_degrees: The angle is uniform in ±`max_degrees`; 0 to 180.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> augment = CropAndRotate(crop_size=22)
        >>> images = torch.zeros(64, 1, 28, 28, dtype=torch.uint8)
        >>> augment(images, torch.rand(64, augment.num_random)).shape
        torch.Size([64, 1, 28, 28])
    """

    num_random = 2  # angle, and whether to crop

    def __init__(self, crop_size: int = 22, crop_probability: float = 0.1, max_degrees: float = 15.0) -> None:
        ranges = {"crop_size": (1, 28), "crop_probability": (0, 1), "max_degrees": (0, 180)}
        for (name, (low, high)), value in zip(ranges.items(), (crop_size, crop_probability, max_degrees), strict=True):
            if not low <= value <= high:
                raise ValueError(f"{name} must be between {low} and {high}, got {value}")
        super().__init__()
        self.crop_size = crop_size
        self.crop_probability = crop_probability
        self.max_degrees = max_degrees

    def forward(self, images: Tensor, random: Tensor) -> Tensor:
        """Return augmented images of the same type and shape; see `Augmentation.forward`."""
        angle = math.radians(self.max_degrees) * (2 * random[:, 0] - 1)
        cropped = random[:, 1] < self.crop_probability
        zoom = torch.where(cropped, self.crop_size / images.shape[-1], 1.0)  # side of the visible part
        cos, sin, zero = zoom * angle.cos(), zoom * angle.sin(), torch.zeros_like(zoom)
        # Inverse affine matrices (output to input), (B, 2, 3): a scaled rotation.
        rows = (torch.stack((cos, -sin, zero), dim=1), torch.stack((sin, cos, zero), dim=1))
        grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
        moved = functional.grid_sample(images.to(grid.dtype), grid, align_corners=False)
        return moved.round_().to(images.dtype)
