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

__all__ = [
    "ArrayDataModule",
    "FashionMNISTDataModule",
    "IDXDataModule",
    "ImageDataModule",
    "ImageFolderDataModule",
    "MNISTDataModule",
]
_MODULES = {"ArrayDataModule": "arrays", "ImageDataModule": "base", "ImageFolderDataModule": "image_folder"}


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module(f"lightning_cnn.data.{_MODULES.get(name, 'datamodules')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
