"""The data module of every dataset: images in memory, a fixed validation split, training augmentation."""

import os
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray

from lightning_cnn.data import sharing, sources
from lightning_cnn.data.augment import Augmentation
from lightning_cnn.data.batches import Images, SequentialLoader, ShuffledLoader
from lightning_cnn.data.facts import DatasetFacts, Framing
from lightning_cnn.errors import UserError

#: The split does not depend on the seed of the run: every run on every machine validates on the same images.
SPLIT_SEED = 0


def stratified_split(labels: NDArray[np.uint8], val_size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the sorted indices of the training and of the validation images.

    Each class has the same share of the validation images as of all images, to within one image. The split depends
    only on the arguments.

    Args:
        labels: Class of each image, `(N,)`.
        val_size: Number of validation images, 1 to N − 1.

    Raises:
        UserError: If `val_size` is out of range.
    """
    if not 1 <= val_size < len(labels):
        raise UserError(f"val_size must be between 1 and {len(labels) - 1}, got {val_size}")
    rng = np.random.default_rng(SPLIT_SEED)
    classes, counts = np.unique(labels, return_counts=True)
    shares = val_size * counts / len(labels)
    quota = np.floor(shares).astype(int)
    # The rest after rounding down goes to the classes with the largest remainders.
    quota[np.argsort(quota - shares, kind="stable")[: val_size - quota.sum()]] += 1
    chosen = [rng.permutation(np.flatnonzero(labels == c))[:n] for c, n in zip(classes, quota, strict=True)]
    val = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), val), val


def stratified_fold(labels: NDArray[np.uint8], folds: int, fold: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the sorted indices of the training and of the validation images of one fold of a cross-validation.

    Each image is a validation image in exactly one fold. The folds differ by at most one image, in all and per class,
    and depend only on `labels` and `folds`.

    Args:
        labels: Class of each image, `(N,)`.
        folds: Number of folds, 2 to N.
        fold: The fold to validate on, from 0.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    by_class = np.concatenate([rng.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)])
    val = np.sort(by_class[fold::folds])
    return np.setdiff1d(np.arange(len(labels)), val), val


def _to_tensors(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Images:
    return Images(torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels.astype(np.int64)))


class ImageDataModule(LightningDataModule):
    """Greyscale images of 28×28 pixels with a fixed, stratified validation split of the training images.

    The official test images are used by `test` and `predict` only. A batch is uint8 images `(B, 1, 28, 28)` and int64
    targets `(B,)`.

    Args:
        data_dir: Folder of the datasets in torchvision's layout; missing files are downloaded into it. None
            means $LIGHTNING_CNN_DATA_DIR, or `data` if that is not set.
        batch_size: Training images per step and device, at least 1.
        eval_batch_size: Images per step and device for validation and test, at least 1; affects speed, not results.
        val_size: Number of validation images, taken from the training images.
        augment: Augmentation of each training batch, on its device. None for none.
        allow_sample: Use the small sample that ships with this package if the dataset is not available.
        global_batch_size: Training images per step over all devices, a multiple of their number; replaces
            `batch_size`, which is not used then, so that a run is the same on any number of devices.
        folds: Number of folds of a stratified cross-validation, at least 2; one fold replaces the `val_size`
            validation images.
        fold: The fold to validate on, 0 to `folds` − 1.

    Raises:
        ValueError: If an argument is out of range.
    """

    facts: ClassVar[DatasetFacts]
    train_set: Images
    val_set: Images
    test_set: Images

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
            raise ValueError("no data module was chosen; choose one, for example --data MNISTDataModule")
        minimums = {"batch_size": 1, "eval_batch_size": 1, "global_batch_size": 1, "folds": 2}
        values = (batch_size, eval_batch_size, global_batch_size, folds)
        for (name, minimum), value in zip(minimums.items(), values, strict=True):
            if value is not None and value < minimum:
                raise ValueError(f"{name} must be at least {minimum}, got {value}")
        if (folds is None) != (fold is None):
            raise ValueError("folds and fold must be given together: the number of folds, and the one to validate on")
        if folds is not None and fold is not None and not 0 <= fold < folds:
            raise ValueError(f"fold must be between 0 and {folds - 1}, got {fold}")
        super().__init__()
        # Plain types only: the hyperparameters become part of every checkpoint.
        self.save_hyperparameters(ignore=["augment"])
        self.hparams["data_dir"] = None if data_dir is None else str(data_dir)
        self.data_dir = sources.default_data_dir() if data_dir is None else Path(data_dir)
        self._batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.val_size = val_size
        self.augment = augment
        self.allow_sample = allow_sample
        self.global_batch_size = global_batch_size
        self.folds = folds
        self.fold = fold
        self.raw: sources.RawDataset | None = None
        self._common_seed: int | None = None

    @property
    def batch_size(self) -> int:
        """Training images per step on this device; setting it raises `UserError` where `global_batch_size` is given."""
        if self.global_batch_size is None:
            return self._batch_size
        _, world_size = self._processes()
        if self.global_batch_size % world_size:
            raise UserError(
                f"--data.global_batch_size must be a multiple of the {world_size} devices, got {self.global_batch_size}"
            )
        return self.global_batch_size // world_size

    @batch_size.setter
    def batch_size(self, batch_size: int) -> None:
        if self.global_batch_size is not None:
            raise UserError(
                f"batch_size {batch_size} would not be used, because --data.global_batch_size {self.global_batch_size} "
                "replaces it; leave out one of the two"
            )
        self._batch_size = self.hparams["batch_size"] = batch_size  # checkpoints contain the latter

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        return self.facts.classes

    @property
    def framing(self) -> Framing:
        """How the images were made from larger ones."""
        return self.facts.framing

    def prepare_data(self) -> None:
        """Download missing files, once per node.

        Raises:
            DataError: If the dataset is not available; the message lists what was tried and what to do.
        """
        self.raw = sources.load(self.facts, self.data_dir, self.allow_sample)

    def setup(self, stage: str | None = None) -> None:
        """Load and verify the files and split them; the processes of a node share the images that its first one loads.

        Args:
            stage: `fit`, `validate`, `test` or `predict`; None for all images.

        Raises:
            DataError: If the dataset is not available.
            UserError: If `val_size` or `folds` leaves no training or no validation images, or if `global_batch_size`
                is not divisible by the number of devices.
        """
        # Lightning's advice for images that are read one by one; here, workers would only slow down.
        warnings.filterwarnings("ignore", r"The '\w+' does not have many workers")
        batch_size, (_, world_size) = self.batch_size, self._processes()
        if stage == "fit" and self.global_batch_size is not None:
            share = f" on each of {world_size} devices" if world_size > 1 else ""
            rank_zero_info(
                f"Batch size: {batch_size}{share} (--data.global_batch_size {self.global_batch_size}; "
                "--data.batch_size is not used)"
            )
        names = {None: ("train", "val", "test"), "test": ("test",), "predict": ("test",)}.get(stage, ("train", "val"))
        if self.trainer is None or self.trainer.world_size == 1:
            sets = self._load(names)
        else:
            loaded = self._load(names) if self.trainer.local_rank == 0 else None
            sets = sharing.share(loaded, self.trainer.node_rank)
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        for name, images in zip(names, sets, strict=True):
            setattr(self, f"{name}_set", Images(images.images.to(device), images.targets.to(device)))
        if torch.distributed.is_initialized():  # without `seed_everything`, each process has a seed of its own
            seeds = [torch.initial_seed()]
            torch.distributed.broadcast_object_list(seeds)
            (self._common_seed,) = seeds

    def _load(self, names: Iterable[str]) -> list[Images]:
        """Return the training, the validation or the test images, or several of them."""
        # In the process where `prepare_data` was called, they are loaded already.
        raw = self.raw = self.raw or sources.load(self.facts, self.data_dir, self.allow_sample)
        sets = {}
        if "test" in names:
            sets["test"] = _to_tensors(raw.test_images, raw.test_labels)
        if "train" in names:
            for name, part in zip(("train", "val"), self._split(raw), strict=True):
                sets[name] = _to_tensors(raw.train_images[part], raw.train_labels[part])
        return [sets[name] for name in names]

    def _split(self, raw: sources.RawDataset) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        if self.folds is None or self.fold is None:
            # Of the sample, the same share as of the full 60,000 training images.
            scaled = max(1, self.val_size * len(raw.train_labels) // 60_000)
            return stratified_split(raw.train_labels, scaled if raw.is_sample else self.val_size)
        if self.folds > len(raw.train_labels):
            raise UserError(f"folds must be between 2 and {len(raw.train_labels)}, got {self.folds}")
        return stratified_fold(raw.train_labels, self.folds, self.fold)

    def state_dict(self) -> dict[str, Any]:
        """Return what identifies the training images, for `load_state_dict`; nothing outside of training."""
        if not hasattr(self, "train_set"):
            return {}
        targets = self.train_set.targets.cpu().numpy()
        return {"training_images": len(targets), "crc32_of_targets": zlib.crc32(targets.tobytes())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to resume a training on other images: those of its validation may be among them.

        Raises:
            UserError: If they are others.
        """
        if self.trainer is None or self.trainer.state.fn != "fit" or (now := self.state_dict()) == state_dict:
            return
        sample = ", the sample that ships with this package" if self.raw is not None and self.raw.is_sample else ""
        raise UserError(
            f"the run was trained on {state_dict.get('training_images')} images, and these "
            f"{now['training_images']} are others{sample}; resume with the same data, --data.val_size, --data.folds "
            "and --data.fold, or train a new run"
        )

    def train_dataloader(self) -> ShuffledLoader:
        """Training batches, in an order that depends only on the seed of the run and the epoch.

        The seed is that of `seed_everything`, or else that of torch, `torch.manual_seed`.
        """
        if (seed := os.environ.get("PL_GLOBAL_SEED") or self._common_seed) is None:  # set by `seed_everything`
            seed = torch.initial_seed()
        rank, world_size = self._processes()
        return ShuffledLoader(
            self.train_set,
            batch_size=self.batch_size,
            seed=int(seed),
            rank=rank,
            world_size=world_size,
            augment=self.augment,
        )

    def val_dataloader(self) -> SequentialLoader:
        """Validation batches in a fixed order."""
        return self._sequential(self.val_set)

    def test_dataloader(self) -> SequentialLoader:
        """Test batches in the order of the test files."""
        return self._sequential(self.test_set)

    def predict_dataloader(self) -> SequentialLoader:
        """The same batches as for a test."""
        return self.test_dataloader()

    def _sequential(self, images: Images) -> SequentialLoader:
        rank, world_size = self._processes()
        return SequentialLoader(images, batch_size=self.eval_batch_size, rank=rank, world_size=world_size)

    def _processes(self) -> tuple[int, int]:
        """Return the rank of this process and the number of processes; without a Trainer, those of Fabric."""
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1
