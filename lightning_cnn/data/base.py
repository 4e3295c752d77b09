"""A dataset in memory: whole batches indexed from uint8 tensors, a fixed validation split, training augmentation."""

import os
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor

from lightning_cnn.data import sources
from lightning_cnn.data.augment import Augmentation
from lightning_cnn.data.batches import Batch, Images, InOrder, Shuffled
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


def _to_tensors(images: NDArray[np.uint8], labels: NDArray[np.uint8], device: torch.device) -> Images:
    """Copy images `(N, 28, 28)` and labels `(N,)` to where they are used: no batch has to travel to an accelerator."""
    writeable = np.require(images, requirements="W")  # files are read only, and a tensor must not be
    return Images(
        torch.from_numpy(writeable).unsqueeze(1).to(device), torch.from_numpy(labels.astype(np.int64)).to(device)
    )


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

    Raises:
        ValueError: If `batch_size` or `eval_batch_size` is below 1.
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
    ) -> None:
        if not hasattr(self, "facts"):
            raise ValueError("the data has no class; choose one, for example --data MNISTDataModule")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if eval_batch_size < 1:
            raise ValueError(f"eval_batch_size must be at least 1, got {eval_batch_size}")
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
        """Load and verify the files and split them.

        Raises:
            DataError: If the dataset cannot be had.
            UserError: If `val_size` leaves no training images or no validation images.
        """
        # The process that prepared the data has it already; all others of the machine read what it stored.
        raw = self.raw = self.raw or sources.load(self.facts, self.data_dir, self.allow_sample)
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        if stage == "test":
            self.test_set = _to_tensors(raw.test_images, raw.test_labels, device)
            return
        train, val = stratified_split(raw.train_labels, self._val_size(raw))
        self.train_set = _to_tensors(raw.train_images[train], raw.train_labels[train], device)
        self.val_set = _to_tensors(raw.train_images[val], raw.train_labels[val], device)

    def _val_size(self, raw: sources.RawDataset) -> int:
        """The sample keeps the proportion that `val_size` has in the full 60,000 training images."""
        return max(1, self.val_size * len(raw.train_labels) // 60_000) if raw.is_sample else self.val_size

    def train_dataloader(self) -> Shuffled:
        """Training batches, in an order that depends on nothing but the seed of the run and the epoch."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))  # where Lightning keeps the seed of the run
        return Shuffled(self.train_set, self.batch_size, seed, *self._processes())

    def val_dataloader(self) -> InOrder:
        """Validation batches in a fixed order."""
        return InOrder(self.val_set, self.eval_batch_size, *self._processes())

    def test_dataloader(self) -> InOrder:
        """Test batches in the order of the test files."""
        return InOrder(self.test_set, self.eval_batch_size, *self._processes())

    def _processes(self) -> tuple[int, int]:
        """Which of the processes this is, and how many there are."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def on_after_batch_transfer(self, batch: Batch | Tensor, dataloader_idx: int) -> Batch | Tensor:
        """Augment training batches, on their device."""
        if self.augment is None or self.trainer is None or not self.trainer.training:
            return batch
        if isinstance(batch, Tensor):  # the example images of the model summary come this way too, without targets
            return batch
        images, targets = batch
        augmented: Tensor = self.augment(images)
        return augmented, targets
