"""Datasets: a LightningDataModule for each; `ImageFolderDataModule` for images of one's own.

They are imported when first used, so that finding and verifying files (`sources`) does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_cnn.data.arrays import ArrayDataModule
    from lightning_cnn.data.base import ImageDataModule
    from lightning_cnn.data.datamodules import FashionMNISTDataModule, IDXDataModule, MNISTDataModule
    from lightning_cnn.data.image_folder import ImageFolderDataModule
    from lightning_cnn.data.published import CIFAR10DataModule, EMNISTDataModule, KMNISTDataModule, QMNISTDataModule

__all__ = [
    "ArrayDataModule",
    "CIFAR10DataModule",
    "EMNISTDataModule",
    "FashionMNISTDataModule",
    "IDXDataModule",
    "ImageDataModule",
    "ImageFolderDataModule",
    "KMNISTDataModule",
    "MNISTDataModule",
    "QMNISTDataModule",
]
_MODULES = {
    "ArrayDataModule": "arrays",
    "ImageDataModule": "base",
    "ImageFolderDataModule": "image_folder",
    **dict.fromkeys(("CIFAR10DataModule", "EMNISTDataModule", "KMNISTDataModule", "QMNISTDataModule"), "published"),
}


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module(f"lightning_cnn.data.{_MODULES.get(name, 'datamodules')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
