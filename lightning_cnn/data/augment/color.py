"""Augmentations that change colours and leave pixels where they are."""

import torch
from torch import Tensor

from lightning_cnn.data.augment.base import Augmentation, per_image, require_at_least, uniform
from lightning_cnn.errors import UserError


class ColorJitter(Augmentation):
    """Change brightness, contrast and saturation by random factors, in this order and rounded once.

    Each factor is uniform in [max(0, 1 − x), 1 + x] with x the argument: 0 leaves as it is, and 1 goes from nothing to
    the double. They mean what they mean in torchvision's `ColorJitter`: brightness is relative to black, contrast to
    the mean grey value of the image, saturation to the grey image.

    Args:
        brightness: At least 0.
        contrast: At least 0.
        saturation: At least 0; without effect on grey images.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> augment = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4)
        >>> images = torch.zeros(64, 3, 32, 32, dtype=torch.uint8)
        >>> augment(images, torch.rand(64, augment.num_random)).shape
        torch.Size([64, 3, 32, 32])
    """

    num_random = 3  # one for each factor

    def __init__(self, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0) -> None:
        require_at_least(0, brightness=brightness, contrast=contrast, saturation=saturation)
        super().__init__()
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation

    def forward(self, images: Tensor, random: Tensor) -> Tensor:
        """Return augmented images of the same type and shape; see `Augmentation.forward`.

        Raises:
            UserError: If the images are neither grey nor of three colours.
        """
        if images.shape[1] not in (1, 3):
            raise UserError(f"ColorJitter takes images of 1 or 3 channels, got {images.shape[1]}")
        colours = images.float()
        if self.brightness:
            colours.mul_(_factor(random[:, 0], self.brightness)).clamp_(max=255)
        if self.contrast:
            # In float64, so that the order of summation, which may depend on the size of the batch, does not show.
            mean = _grey(colours).mean(dim=(2, 3), keepdim=True, dtype=torch.float64).float()
            colours.sub_(mean).mul_(_factor(random[:, 1], self.contrast)).add_(mean).clamp_(0, 255)
        if self.saturation and images.shape[1] == 3:
            grey = _grey(colours)
            colours.sub_(grey).mul_(_factor(random[:, 2], self.saturation)).add_(grey).clamp_(0, 255)
        return colours.round_().to(images.dtype)


def _factor(random: Tensor, change: float) -> Tensor:
    return per_image(uniform(random, max(0.0, 1 - change), 1 + change))


def _grey(colours: Tensor) -> Tensor:
    """Return grey values `(B, 1, H, W)`, weighted as the eye does (ITU-R BT.601)."""
    if colours.shape[1] == 1:
        return colours
    return 0.299 * colours[:, :1] + 0.587 * colours[:, 1:2] + 0.114 * colours[:, 2:]
