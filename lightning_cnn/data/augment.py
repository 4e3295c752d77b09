"""Training augmentation of a whole batch in one operation, on whatever device the batch is."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional


class Augmentation(nn.Module):
    """Changes a batch of training images; what it does is up to the subclass.

    Chance comes from outside, so that an image is changed in the same way whichever process has it, also in a run that
    goes on in the middle of an epoch.

    Attributes:
        numbers: How many random numbers each image takes.
    """

    numbers: ClassVar[int]

    def forward(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Return as many uint8 images of the same shape `(B, C, H, W)`, each changed on its own.

        Args:
            images: uint8, `(B, C, H, W)`.
            numbers: Drawn evenly from [0, 1), float32, `(B, numbers)`, on the same device.
        """
        raise NotImplementedError


class CropAndRotate(Augmentation):
    """Randomly crop the centre and resize it back, then rotate, each image on its own.

    Both are one affine map, so each image is interpolated once (bilinear, black outside). Images keep their type, shape
    and range.

    Args:
        crop_size: Side of the centre crop in pixels, 1 to 28; it is resized back to the full side.
        crop_probability: Share of the images to crop, 0 to 1.
        max_degrees: Images are rotated by an angle drawn evenly from ±`max_degrees`; 0 to 180.

    Raises:
        ValueError: If an argument is out of its range.
    """

    numbers = 2  # angle, and whether to crop

    def __init__(self, crop_size: int = 22, crop_probability: float = 0.1, max_degrees: float = 15.0) -> None:
        if not 1 <= crop_size <= 28:
            raise ValueError(f"crop_size must be between 1 and 28, got {crop_size}")
        if not 0 <= crop_probability <= 1:
            raise ValueError(f"crop_probability must be between 0 and 1, got {crop_probability}")
        if not 0 <= max_degrees <= 180:
            raise ValueError(f"max_degrees must be between 0 and 180, got {max_degrees}")
        super().__init__()
        self.crop_size = crop_size
        self.crop_probability = crop_probability
        self.max_degrees = max_degrees

    def forward(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Return augmented uint8 images of the same shape `(B, C, H, W)`, for numbers `(B, 2)` in [0, 1)."""
        angle = math.radians(self.max_degrees) * (2 * numbers[:, 0] - 1)
        cropped = numbers[:, 1] < self.crop_probability
        zoom = torch.where(cropped, self.crop_size / images.shape[-1], 1.0)  # side of the part that stays visible
        cos, sin, zero = zoom * angle.cos(), zoom * angle.sin(), torch.zeros_like(zoom)
        # Row by row, where each output pixel is read in the input: a rotation, scaled.
        rows = (torch.stack((cos, -sin, zero), dim=1), torch.stack((sin, cos, zero), dim=1))
        grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
        moved = functional.grid_sample(images.to(grid.dtype), grid, align_corners=False)
        return moved.round_().to(images.dtype)
