"""Datasets: `MNISTDataModule` and `FashionMNISTDataModule`.

They are imported when first used, so that finding and verifying files (`sources`) does not import torch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_cnn.data.base import ImageDataModule
    from lightning_cnn.data.datamodules import FashionMNISTDataModule, MNISTDataModule

__all__ = ["FashionMNISTDataModule", "ImageDataModule", "MNISTDataModule"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from lightning_cnn.data import datamodules

        return getattr(datamodules, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
