"""One LightningDataModule per dataset in MNIST's format: `IDXDataModule` with the facts of the dataset."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lightning_cnn.data import sources
from lightning_cnn.data.base import ImageDataModule, Part
from lightning_cnn.data.batches import Images
from lightning_cnn.data.facts import DatasetFacts, Framing
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mirrors import user_mirrors
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.data.splits import number_of, stratified_split


class IDXDataModule(ImageDataModule):
    """A dataset in four IDX files, of which every byte is verified.

    Args:
        data_dir: Folder of the datasets in torchvision's layout; missing files are downloaded into it. None
            means $LIGHTNING_CNN_DATA_DIR, or `data` if that is not set.
        val_size: Validation images, taken from the training images: their number (int), or their share (float).
        allow_sample: Use the small sample that ships with this package if the dataset is not available.
        mirrors: Addresses of web folders with the gzipped files, or with a copy of `data_dir`, separated by commas or
            in a list; they are asked before the official ones, and their files verified like all. None means
            $LIGHTNING_CNN_MIRRORS.
        kwargs: Arguments of `ImageDataModule`.

    Raises:
        ValueError: If an argument is out of range.
    """

    facts: ClassVar[DatasetFacts]
    not_hyperparameters = ("mirrors",)

    def __init__(
        self,
        data_dir: str | Path | None = None,
        val_size: int | float = 5000,
        allow_sample: bool = False,
        mirrors: list[str] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(val_size=val_size, **kwargs)
        self.hparams["data_dir"] = None if data_dir is None else str(data_dir)
        self.data_dir = sources.default_data_dir() if data_dir is None else Path(data_dir)
        self.allow_sample = allow_sample
        self.mirrors = user_mirrors(mirrors)
        self.raw: sources.RawDataset | None = None

    @property
    def name(self) -> str:  # type: ignore[override]  # a constant of the class
        """Name of the dataset in run folders."""
        return self.facts.name

    @property
    def title(self) -> str:  # type: ignore[override]
        """Name of the dataset in messages and figures."""
        return self.facts.title

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        return self.facts.classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image; if the facts do not say it, the files must be there.

        Raises:
            DataError: If they are needed, and are not available.
        """
        height, width = self.facts.image_size or self._read().train_images.shape[1:]
        return 1, height, width

    @property
    def framing(self) -> Framing | None:
        """How the images were made from larger ones."""
        return self.facts.framing

    @property
    def record(self) -> dict[str, Any] | None:
        """What a run records about its images; None if they are not loaded."""
        if self.raw is None:
            return None
        return {"dataset": self.title, "origin": self.raw.origin, "sample": self.raw.is_sample}

    def prepare_data(self) -> None:
        """Download missing files, once per node.

        Raises:
            DataError: If the dataset is not available; the message lists what was tried and what to do.
        """
        self._read()

    def _read(self) -> sources.RawDataset:
        """Return the dataset, which is loaded once in each process that needs it."""
        if self.raw is None:
            self.raw = sources.load(self.facts, self.data_dir, self.allow_sample, self.mirrors)
        return self.raw

    def load_images(self, parts: Sequence[Part]) -> dict[Part, Images]:
        """Return the images of these parts.

        Raises:
            DataError: If the dataset is not available.
            UserError: If `val_size` or `folds` leaves no training or no validation images.
        """
        raw = self._read()
        sets: dict[Part, Images] = {}
        if "train" in parts or "val" in parts:
            train, val = self.split(raw.train_labels)
            sets["train"] = Images.of_arrays(raw.train_images[train][:, None], raw.train_labels[train])
            sets["val"] = Images.of_arrays(raw.train_images[val][:, None], raw.train_labels[val])
        if "test" in parts:
            sets["test"] = Images.of_arrays(raw.test_images[:, None], raw.test_labels)
        return {part: sets[part] for part in parts}

    def split(self, labels: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the indices of the training and of the validation images; of a sample, in the same shares."""
        if self.folds is None and self.raw is not None and self.raw.is_sample:
            images = self.facts.training_images
            return stratified_split(labels, max(1, number_of(self.val_size, images) * len(labels) // images))
        return super().split(labels)


class MNISTDataModule(IDXDataModule):
    """MNIST: 60,000 training and 10,000 test images of handwritten digits."""

    facts = MNIST


class FashionMNISTDataModule(IDXDataModule):
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothes."""

    facts = FASHION_MNIST
