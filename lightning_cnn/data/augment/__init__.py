"""Training augmentation of a whole batch at once, on its device: uint8 images of any size, grey or colour."""

from lightning_cnn.data.augment.base import Augmentation
from lightning_cnn.data.augment.color import ColorJitter
from lightning_cnn.data.augment.combine import Compose, Transform
from lightning_cnn.data.augment.erasing import Cutout, RandomErasing
from lightning_cnn.data.augment.geometry import CropAndRotate, HorizontalFlip, RandomCrop, RandomRotation

__all__ = [
    "Augmentation",
    "ColorJitter",
    "Compose",
    "CropAndRotate",
    "Cutout",
    "HorizontalFlip",
    "RandomCrop",
    "RandomErasing",
    "RandomRotation",
    "Transform",
]
