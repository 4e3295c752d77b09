"""A dataset in memory: whole batches indexed from uint8 tensors, a fixed validation split, training augmentation."""

import os
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray

from lightning_cnn.data import sharing, sources
from lightning_cnn.data.augment import Augmentation
from lightning_cnn.data.batches import Images, SequentialLoader, ShuffledLoader
from lightning_cnn.data.facts import DatasetFacts, Framing
from lightning_cnn.errors import UserError

#: The split belongs to the dataset, not to the run: every run on every machine validates on the same images.
SPLIT_SEED = 0


def stratified_split(labels: NDArray[np.uint8], val_size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the sorted indices of the training and of the validation images.

    Each class has the same share of the validation images as of all images, to within one image. The split depends on
    the arguments only.

    Args:
        labels: Class of each image, `(N,)`.
        val_size: Number of validation images, 1 to N − 1.

    Raises:
        UserError: If `val_size` is out of its range.
    """
    if not 1 <= val_size < len(labels):
        raise UserError(f"val_size must be between 1 and {len(labels) - 1}, got {val_size}")
    rng = np.random.default_rng(SPLIT_SEED)
    classes, counts = np.unique(labels, return_counts=True)
    shares = val_size * counts / len(labels)
    quota = np.floor(shares).astype(int)
    # What rounding down left over goes to the classes that lost most by it.
    quota[np.argsort(quota - shares, kind="stable")[: val_size - quota.sum()]] += 1
    chosen = [rng.permutation(np.flatnonzero(labels == c))[:n] for c, n in zip(classes, quota, strict=True)]
    val = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), val), val


def stratified_fold(labels: NDArray[np.uint8], folds: int, fold: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the sorted indices of the training and of the validation images of one part of a cross-validation.

    Each image is a validation image in exactly one of the folds; sizes of folds differ by one image at most, and so do
    the shares of each class. The folds depend on `labels` and `folds` only.

    Args:
        labels: Class of each image, `(N,)`.
        folds: Number of folds, 2 to N.
        fold: Which of them to validate on, from 0.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    by_class = np.concatenate([rng.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)])
    val = np.sort(by_class[fold::folds])
    return np.setdiff1d(np.arange(len(labels)), val), val


def _to_tensors(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Images:
    """Make tensors of images `(N, 28, 28)` and labels `(N,)`."""
    writeable = np.require(images, requirements="W")  # files are read only, and a tensor must not be
    return Images(torch.from_numpy(writeable).unsqueeze(1), torch.from_numpy(labels.astype(np.int64)))


class ImageDataModule(LightningDataModule):
    """28×28 grey images with a fixed, stratified validation split taken from the training images.

    The official test images are used by `test` only. A batch is uint8 images `(B, 1, 28, 28)` and int64 targets `(B,)`.

    Args:
        data_dir: Folder with the datasets in torchvision's layout; files that are missing are fetched into it. None
            stands for $LIGHTNING_CNN_DATA_DIR, or `data` where that is not set.
        batch_size: Training images per step and device, at least 1.
        eval_batch_size: Images per step and device for validation and test, at least 1; changes speed, not results.
        val_size: Validation images, taken from the training images.
        augment: Changes each training batch of uint8 images, on its device. None leaves them as they are.
        allow_sample: Fall back to the small sample that ships with this package when the dataset cannot be had.
        global_batch_size: Training images per step of all devices together, a multiple of their number; used instead of
            `batch_size`, so that a run is the same on any number of devices.
        folds: Cross-validation: cut the training images into so many stratified parts, at least 2, and validate on one
            of them instead of on `val_size` images.
        fold: Which part that is, 0 to `folds` − 1.

    Raises:
        ValueError: If one of them is out of its range.
    """

    facts: ClassVar[DatasetFacts]

    def __init__(
        self,
        data_dir: str | Path | None = None,
        batch_size: int = 64,
        eval_batch_size: int = 1000,
        val_size: int = 5000,
        augment: Augmentation | None = None,
        allow_sample: bool = False,
        global_batch_size: int | None = None,
        folds: int | None = None,
        fold: int | None = None,
    ) -> None:
        if not hasattr(self, "facts"):
            raise ValueError("the data has no class; choose one, for example --data MNISTDataModule")
        minimums = {"batch_size": 1, "eval_batch_size": 1, "global_batch_size": 1, "folds": 2}
        values = (batch_size, eval_batch_size, global_batch_size, folds)
        for (name, minimum), value in zip(minimums.items(), values, strict=True):
            if value is not None and value < minimum:
                raise ValueError(f"{name} must be at least {minimum}, got {value}")
        if (folds is None) != (fold is None):
            raise ValueError("folds and fold must be given together: how many parts, and which of them to validate on")
        if folds is not None and fold is not None and not 0 <= fold < folds:
            raise ValueError(f"fold must be between 0 and {folds - 1}, got {fold}")
        super().__init__()
        # Plain types only: these arguments become part of every checkpoint.
        self.save_hyperparameters(ignore=["augment"], logger=False)
        self.hparams["data_dir"] = None if data_dir is None else str(data_dir)
        self.data_dir = sources.default_data_dir() if data_dir is None else Path(data_dir)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.val_size = val_size
        self.augment = augment
        self.allow_sample = allow_sample
        self.global_batch_size = global_batch_size
        self.folds = folds
        self.fold = fold
        self.raw: sources.RawDataset | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        return self.facts.classes

    @property
    def framing(self) -> Framing:
        """How the images were made from larger ones."""
        return self.facts.framing

    def prepare_data(self) -> None:
        """Fetch what is missing, once per machine.

        Raises:
            DataError: If the dataset cannot be had; the message says what was tried and what to do.
        """
        self.raw = sources.load(self.facts, self.data_dir, self.allow_sample)

    def setup(self, stage: str) -> None:
        """Load and verify the files and split them; processes of one machine share what the first of them has loaded.

        Raises:
            DataError: If the dataset cannot be had.
            UserError: If `val_size` or `folds` leaves no images to train or none to validate on, or if the batch cannot
                be divided among the devices.
        """
        self._batch_size()
        if self.trainer is None or self.trainer.world_size == 1:
            sets = self._load(stage)
        else:
            mine = self._load(stage) if self.trainer.local_rank == 0 else None
            sets = sharing.share(mine, self.trainer.node_rank)
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        sets = [Images(images.images.to(device), images.targets.to(device)) for images in sets]
        if stage == "test":
            (self.test_set,) = sets
        else:
            self.train_set, self.val_set = sets

    def _load(self, stage: str) -> list[Images]:
        """The images of a stage: those to test, or those to train and those to validate."""
        # Where `prepare_data` was called, it has them already.
        raw = self.raw = self.raw or sources.load(self.facts, self.data_dir, self.allow_sample)
        if stage == "test":
            return [_to_tensors(raw.test_images, raw.test_labels)]
        return [_to_tensors(raw.train_images[part], raw.train_labels[part]) for part in self._split(raw)]

    def _split(self, raw: sources.RawDataset) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        if self.folds is None or self.fold is None:
            return stratified_split(raw.train_labels, self._val_size(raw))
        if self.folds > len(raw.train_labels):
            raise UserError(f"folds must be between 2 and {len(raw.train_labels)}, got {self.folds}")
        return stratified_fold(raw.train_labels, self.folds, self.fold)

    def _val_size(self, raw: sources.RawDataset) -> int:
        """The sample keeps the proportion that `val_size` has in the full 60,000 training images."""
        return max(1, self.val_size * len(raw.train_labels) // 60_000) if raw.is_sample else self.val_size

    def train_dataloader(self) -> ShuffledLoader:
        """Training batches, in an order that depends on nothing but the seed of the run and the epoch."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))  # where Lightning keeps the seed of the run
        return ShuffledLoader(self.train_set, self._batch_size(), seed, *self._processes(), self.augment)

    def val_dataloader(self) -> SequentialLoader:
        """Validation batches in a fixed order."""
        return SequentialLoader(self.val_set, self.eval_batch_size, *self._processes())

    def test_dataloader(self) -> SequentialLoader:
        """Test batches in the order of the test files."""
        return SequentialLoader(self.test_set, self.eval_batch_size, *self._processes())

    def _batch_size(self) -> int:
        """Training images per step of this device.

        Raises:
            UserError: If the batch cannot be divided among the devices.
        """
        if self.global_batch_size is None:
            return self.batch_size
        _, world_size = self._processes()
        if self.global_batch_size % world_size:
            raise UserError(
                f"--data.global_batch_size {self.global_batch_size} cannot be divided among {world_size} devices; "
                f"give a multiple of {world_size}"
            )
        return self.global_batch_size // world_size

    def _processes(self) -> tuple[int, int]:
        """Which of the processes this is, and how many there are."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
