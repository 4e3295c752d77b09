"""`ArrayDataModule`: NumPy arrays and tensors as a dataset, in Python."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lightning_cnn.data.base import ImageDataModule, Part
from lightning_cnn.data.checks import checked_arrays
from lightning_cnn.errors import UserError


class ArrayDataModule(ImageDataModule):
    """Images and labels that are in memory already.

    Args:
        images: Training images, uint8, `(N, H, W)` if they are grey, otherwise `(N, C, H, W)`; an array or a tensor.
        labels: Class of each image, integers from 0, `(N,)`.
        test_images: Test images of the same shape; None for none.
        test_labels: Their classes.
        class_names: Names in the order of the labels; None for the numbers.
        name: Name of the dataset in run folders.
        kwargs: Arguments of `ImageDataModule`.

    Raises:
        ValueError: If an array has another shape or type, or lengths do not fit.

    Example:
        >>> images, labels = np.zeros((20, 32, 32), np.uint8), np.arange(20) % 2
        >>> ArrayDataModule(images, labels, class_names=["cat", "dog"]).image_shape
        (1, 32, 32)
    """

    not_hyperparameters: ClassVar[tuple[str, ...]] = ("images", "labels", "test_images", "test_labels")

    def __init__(
        self,
        images: ArrayLike | Tensor,
        labels: ArrayLike | Tensor,
        test_images: ArrayLike | Tensor | None = None,
        test_labels: ArrayLike | Tensor | None = None,
        class_names: Sequence[str] | None = None,
        name: str = "images",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (test_images is None) != (test_labels is None):
            raise ValueError("test_images and test_labels must be given together")
        self._train = checked_arrays(images, labels)
        self._test = None if test_images is None else checked_arrays(test_images, test_labels, "test_images")
        most = max(part[1].max() for part in (self._train, self._test) if part is not None)
        names = [str(label) for label in range(most + 1)] if class_names is None else [*class_names]
        if most >= len(names):
            raise ValueError(f"labels must be below the number of class_names, {len(names)}, got {most}")
        if self._test is not None and self._test[0].shape[1:] != self._train[0].shape[1:]:
            raise ValueError(
                f"test_images must have the shape of images, {self._train[0].shape[1:]}, got {self._test[0].shape[1:]}"
            )
        self.hparams["class_names"] = names
        self.name = self.title = name

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        return tuple(self.hparams["class_names"])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        channels, height, width = self._train[0].shape[1:]
        return channels, height, width

    def has_images(self, part: Part) -> bool:
        """Whether there are images of a part."""
        return part != "test" or self._test is not None

    def read(self, is_test: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return images `(N, C, H, W)` and labels `(N,)`.

        Raises:
            UserError: If there are no test images.
        """
        if not is_test:
            return self._train
        if self._test is None:
            raise UserError("there are no test images; give test_images and test_labels")
        return self._test
