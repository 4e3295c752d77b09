"""The data module of every dataset: a fixed validation split, batches of tensors, training augmentation."""

import os
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray

from lightning_cnn.data import sharing
from lightning_cnn.data.augment import Augmentation, Compose
from lightning_cnn.data.batches import Images, SequentialLoader, ShuffledLoader
from lightning_cnn.data.checks import checked_arrays
from lightning_cnn.data.facts import Framing
from lightning_cnn.data.resize import Resize
from lightning_cnn.data.splits import number_of, require_share, stratified_fold, stratified_split
from lightning_cnn.errors import UserError

#: Which images: those to train on, those to validate on, or those to test on.
Part = Literal["train", "val", "test"]


class ImageDataModule(LightningDataModule):
    """Images of one size with a fixed, stratified validation split of the training images.

    A batch is uint8 images `(B, C, H, W)` and int64 targets `(B,)`. The test images are used by `test` and `predict`
    only. A subclass says which images there are: `name`, `title`, `class_names`, `image_shape` and `read`.
    Lightning's own Trainer takes it as well, and `Tuner.scale_batch_size` sets `batch_size`.

    Args:
        batch_size: Training images per step and device, at least 1.
        eval_batch_size: Images per step and device for validation and test, at least 1; affects speed, not results.
        val_size: Validation images, taken from the training images: their number (int), or their share (float).
        augment: Augmentation of each training batch, on its device; a list is applied in its order. None for none.
        global_batch_size: Training images per step over all devices, a multiple of their number; replaces
            `batch_size`, which is not used then, so that a run is the same on any number of devices.
        folds: Number of folds of a stratified cross-validation, at least 2; one fold replaces the `val_size`
            validation images.
        fold: The fold to validate on, 0 to `folds` − 1.

    Attributes:
        name: Name of the dataset in run folders, for example `mnist`.
        title: Name of the dataset in messages and figures, for example `MNIST`.

    Raises:
        ValueError: If an argument is out of range.
    """

    name: str
    title: str
    train_set: Images
    val_set: Images
    test_set: Images
    #: Whether each process loads the images itself, because they are mapped into memory, which processes share.
    is_mapped: ClassVar[bool] = False
    #: Arguments that are not plain values, which a checkpoint does not contain.
    not_hyperparameters: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        batch_size: int = 64,
        eval_batch_size: int = 1000,
        val_size: int | float = 0.1,
        augment: Augmentation | list[Augmentation] | None = None,
        global_batch_size: int | None = None,
        folds: int | None = None,
        fold: int | None = None,
    ) -> None:
        if type(self) is ImageDataModule:
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
        require_share("val_size", val_size)
        super().__init__()
        # Plain types only: the hyperparameters become part of every checkpoint.
        self.save_hyperparameters(ignore=["augment", *self.not_hyperparameters])
        self._batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.val_size = val_size
        self.augment = Compose(augment) if isinstance(augment, list) else augment
        self.global_batch_size = global_batch_size
        self.folds = folds
        self.fold = fold
        self._common_seed: int | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        raise NotImplementedError

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        raise NotImplementedError

    def read(self, is_test: bool) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
        """Return images `(N, C, H, W)`, 0 to 255, and labels `(N,)`, from 0.

        Args:
            is_test: Whether those of the test set are meant; the others are split into training and validation images.
        """
        raise NotImplementedError

    def load_images(self, parts: Sequence[Part]) -> dict[Part, Images]:
        """Return the images of these parts, in main memory; `setup` calls it on every node.

        Raises:
            UserError: If there are none, or if `val_size` or `folds` leaves no training or no validation images; or if
                `read` returns something else than images and their labels.
        """
        sets: dict[Part, Images] = {}
        if "train" in parts or "val" in parts:
            images, labels = self._checked(is_test=False)
            train, val = self.split(labels)
            sets["train"] = Images.of_arrays(images, labels[train], rows=train)
            sets["val"] = Images.of_arrays(images, labels[val], rows=val)
        if "test" in parts:
            sets["test"] = Images.of_arrays(*self._checked(is_test=True))
        return {part: sets[part] for part in parts}

    def _checked(self, is_test: bool) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
        """Return what `read` returns.

        Raises:
            UserError: If it is not images of `image_shape` and labels of `class_names`.
        """
        read = self.read(is_test)
        try:
            images, labels = checked_arrays(*read)
            if images.shape[1:] != (shape := tuple(self.image_shape)):
                raise ValueError(f"images must have the image_shape {shape}, got {images.shape[1:]}")
            if (most := labels.max()) >= self.num_classes:
                raise ValueError(f"labels must be below the number of class_names, {self.num_classes}, got {most}")
        except ValueError as error:
            raise UserError(f"{type(self).__name__}.read: {error}") from error
        return images, labels

    @property
    def framing(self) -> Framing | Resize | None:
        """How the images were made from larger ones, so that `predict` does the same; None if that is unknown."""
        return None

    @property
    def record(self) -> dict[str, Any] | None:
        """What a run records about its images, in plain types: `dataset`, `origin` and `sample`; None if unloaded."""
        return {"dataset": self.title, "origin": "memory", "sample": False}

    def require_outside(self, folder: Path) -> None:
        """Refuse a folder for the results of runs in which images are looked for; here, there is none."""

    def files(self, part: Part) -> list[str]:
        """Return the name of the file of each image, in the order of `load_images`; nothing if they have none."""
        return []

    def has_images(self, part: Part) -> bool:
        """Whether there are images of a part."""
        return True

    def split_rows(self) -> list[tuple[str, str, str, str]]:
        """Return file, label, part and digest of each image, sorted; empty if the dataset itself has a test set."""
        return []

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def in_channels(self) -> int:
        """The number of channels of every image, 1 if they are grey and 3 if they are RGB."""
        return self.image_shape[0]

    @property
    def image_size(self) -> int | tuple[int, int]:
        """The side of every image in pixels, or its height and width."""
        _, height, width = self.image_shape
        return height if height == width else (height, width)

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

    def setup(self, stage: str | None = None) -> None:
        """Load the images; the processes of a node share those that its first one loads.

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
        every: tuple[Part, ...] = ("train", "val", "test")
        parts = every if stage is None else every[2:] if stage in ("test", "predict") else every[:2]
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        for part, images in self._load(parts).items():
            setattr(self, f"{part}_set", images.to(device))
        if torch.distributed.is_initialized():  # without `seed_everything`, each process has a seed of its own
            seeds = [torch.initial_seed()]
            torch.distributed.broadcast_object_list(seeds)
            (self._common_seed,) = seeds

    def _load(self, parts: Sequence[Part]) -> dict[Part, Images]:
        if self.trainer is None or self.trainer.world_size == 1 or self.is_mapped:
            return self.load_images(parts)
        loaded = [*self.load_images(parts).values()] if self.trainer.local_rank == 0 else None
        return dict(zip(parts, sharing.share(loaded, self.trainer.node_rank), strict=True))

    def split(self, labels: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the indices of the training and of the validation images among those with these labels.

        Raises:
            UserError: If `val_size` or `folds` leaves no training or no validation images.
        """
        if self.folds is None or self.fold is None:
            return stratified_split(labels, number_of(self.val_size, len(labels)))
        if self.folds > len(labels):
            raise UserError(f"folds must be between 2 and {len(labels)}, got {self.folds}")
        return stratified_fold(labels, self.folds, self.fold)

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
        is_sample = (self.record or {}).get("sample")
        sample = ", the sample that ships with this package" if is_sample else ""
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
        """Test batches in the order of the dataset."""
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
