"""Data loaders over images that are in memory as one tensor; each batch is one indexing operation.

Both are a `torch.utils.data.DataLoader`, as Lightning's Trainer and Fabric expect, but have their own iteration: that
of torch is made for images that are read one by one, and takes twice as long here, 60 µs instead of 30 for a batch of
64 on a core of an AMD EPYC. Their samplers are `DistributedSampler`s, so that Lightning does not replace them by its
own, which repeats images. With a sampler that is passed, as Lightning does for `overfit_batches` and for `predict`, the
batches are those of any `DataLoader`.
"""

import math
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, SequentialSampler

from lightning_cnn.data.augment import Augmentation
from lightning_cnn.errors import UserError

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Images(Dataset[Batch]):
    """Images and their classes in memory.

    Attributes:
        images: uint8, `(M, C, H, W)`; may be mapped from a file.
        targets: int64, `(N,)`, on the same device.
        rows: Which of `images` these are, int64, `(N,)`; None for all, in their order.
    """

    images: Tensor
    targets: Tensor
    rows: Tensor | None = None

    @classmethod
    def of_arrays(
        cls, images: NDArray[np.uint8], labels: NDArray[np.integer], rows: NDArray[np.integer] | None = None
    ) -> "Images":
        """Return arrays as images; `labels` are those of `rows`, if these are given."""
        targets = torch.from_numpy(labels.astype(np.int64))
        with warnings.catch_warnings():  # they are only read
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            pixels = torch.from_numpy(images)
        return cls(pixels, targets, None if rows is None else torch.from_numpy(rows.astype(np.int64)))

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int | slice | Tensor) -> Batch:
        return self.images[index if self.rows is None else self.rows[index]], self.targets[index]

    def select(self, indices: Tensor) -> Batch:
        """Return a batch; `index_select` is ten times as fast as indexing with brackets."""
        rows = indices if self.rows is None else self.rows.index_select(0, indices)
        return self.images.index_select(0, rows), self.targets.index_select(0, indices)

    def crc32(self) -> int:
        """Return a checksum of all pixels and labels, in their order."""
        value = zlib.crc32(self.targets.cpu().numpy().data)
        for start in range(0, len(self), 1024):  # images that are mapped may be more than fit into memory
            images, _ = self[start : start + 1024]
            value = zlib.crc32(images.cpu().contiguous().numpy().data, value)
        return value

    def to(self, device: torch.device) -> "Images":
        """Return the images on a device, or unchanged if they would take more than half of its free memory."""
        if device.type == "cpu":
            return self
        if device.type == "cuda":
            size = len(self) * self.images[0].numel()
            if size > torch.cuda.mem_get_info(device)[0] // 2:
                return self  # Lightning moves each batch
        images = self.images if self.rows is None else self.images.index_select(0, self.rows)
        return Images(images.to(device), self.targets.to(device))


class SequentialDistributedSampler(DistributedSampler[Any], SequentialSampler):
    """Indices of the images of one process: the batches in order, of which the processes take turns.

    Args:
        dataset: The images.
        batch_size: Images per batch, at least 1.
        rank: Rank of the process.
        world_size: Number of processes.

    Attributes:
        batches: Indices of each batch; all processes have the same number of batches, of which the last may be empty.
    """

    def __init__(self, dataset: Images, batch_size: int, rank: int, world_size: int) -> None:
        super().__init__(dataset, world_size, rank, shuffle=False)
        turns = math.ceil(len(dataset) / (batch_size * world_size))
        starts = [(turn * world_size + rank) * batch_size for turn in range(turns)]
        self.batches = [range(start, min(start + batch_size, len(dataset))) for start in starts]
        self.num_samples = sum(map(len, self.batches))

    def __iter__(self) -> Iterator[int]:
        for batch in self.batches:
            yield from batch


class ShuffledDistributedSampler(DistributedSampler[Any]):
    """Indices of the images of one process, in an order that depends only on the seed and the epoch.

    Each iteration is a new epoch, the one after the last unless `set_epoch` was called.

    Args:
        dataset: The images.
        seed: Seed of the run, at least 0.
        rank: Rank of the process.
        world_size: Number of processes.
    """

    dataset: Images

    def __init__(self, dataset: Images, seed: int, rank: int, world_size: int) -> None:
        super().__init__(dataset, world_size, rank, seed=seed)
        self.num_samples = len(range(rank, len(dataset), world_size))
        self._has_begun = False

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch, self._has_begun = epoch, False

    def next_order(self) -> Tensor:
        """Begin an epoch, and return its order of the images of all processes, int64 `(N,)`, on their device."""
        self.epoch, self._has_begun = self.epoch + self._has_begun, True
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.dataset))
        return torch.from_numpy(order).to(self.dataset.targets.device)

    def __iter__(self) -> Iterator[int]:
        return iter(self.next_order()[self.rank :: self.num_replicas].tolist())


class SequentialLoader(DataLoader[Batch]):
    """All images in order, each exactly once over all processes.

    The batches do not depend on the number of processes, which take them in turn: the last bits of a prediction may
    depend on the other images of the batch. All processes have the same number of batches, because they wait for each
    other; the last one may be empty.

    Args:
        dataset: The images.
        batch_size: Images per batch, at least 1; the last batch may be smaller.
        rank: Rank of this process.
        world_size: Number of processes, at least 1.
        kwargs: Arguments of `DataLoader`, such as the sampler that Lightning passes.
    """

    dataset: Images

    def __init__(self, dataset: Images, batch_size: int = 1, rank: int = 0, world_size: int = 1, **kwargs: Any) -> None:
        if not kwargs.get("sampler") and not kwargs.get("batch_sampler"):
            kwargs["sampler"] = SequentialDistributedSampler(dataset, batch_size, rank, world_size)
        super().__init__(dataset, batch_size, **kwargs)

    def __len__(self) -> int:
        if isinstance(self.sampler, SequentialDistributedSampler):
            return len(self.sampler.batches)
        return super().__len__()

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch names its private iterator
        if isinstance(self.sampler, SequentialDistributedSampler):
            _require_world_size(self.sampler.num_replicas)
            for batch in self.sampler.batches:
                yield self.dataset[batch.start : batch.stop]
        else:
            for listed in self.batch_sampler or ():
                yield self.dataset.select(torch.as_tensor(listed, device=self.dataset.targets.device))


class ShuffledLoader(DataLoader[Batch]):
    """All images, each exactly once, in an order that depends only on the seed and the epoch.

    At each step the processes together see the global batch that a single process would see, and each image is
    augmented as it would be there. An epoch can be resumed from `state_dict`, with any number of processes if the
    global batch size stays the same. Each iteration is a new epoch; Lightning sets it with `sampler.set_epoch`.

    Args:
        dataset: The images, at least one per process.
        batch_size: Images per batch in each process, at least 1. The last batch may be smaller, by one image more in
            some processes. A rest of fewer than eight images, or two per process, is added to the batch before it:
            batch normalisation cannot train on one image.
        seed: Seed of the run, at least 0.
        rank: Rank of this process.
        world_size: Number of processes, at least 1.
        augment: Augmentation of each batch.
        kwargs: Arguments of `DataLoader`, such as the sampler that Lightning passes.

    Raises:
        UserError: If there are fewer images than processes.
    """

    dataset: Images

    def __init__(
        self,
        dataset: Images,
        batch_size: int = 1,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        augment: Augmentation | None = None,
        **kwargs: Any,
    ) -> None:
        if len(dataset) < world_size:
            raise UserError(
                f"{len(dataset)} training images are too few for {world_size} processes; use fewer processes"
            )
        if not kwargs.get("sampler") and not kwargs.get("batch_sampler"):
            kwargs["sampler"] = ShuffledDistributedSampler(dataset, seed, rank, world_size)
        super().__init__(dataset, batch_size, **kwargs)
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.augment = augment
        self.global_batch_size = batch_size * world_size
        self._epoch = -1  # the last that was begun
        self._seen = 0  # images of it that all processes have seen
        self._resumed: dict[str, int] | None = None  # where the next iteration starts

    def state_dict(self) -> dict[str, int]:
        """Return the seed and the position: the epoch, and its images that all processes together have seen."""
        if self._resumed is not None:
            return self._resumed
        position = {"epoch": max(0, self._epoch), "images": self._seen, "global_batch_size": self.global_batch_size}
        return {"seed": self.seed, **position}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Shuffle with that seed, and start the next iteration there unless another epoch is set before.

        Raises:
            UserError: If it is not a seed and a position.
        """
        names = ("seed", "epoch", "images", "global_batch_size")
        found = state_dict if isinstance(state_dict, dict) else {}
        if not all(type(found.get(name)) is int and found[name] >= 0 for name in names):
            raise UserError(
                "the state of the data loader in the checkpoint is not a seed and a position in an epoch; "
                "train a new run"
            )
        self._resumed = {name: state_dict[name] for name in names}
        self._epoch, self.seed = state_dict["epoch"] - 1, state_dict["seed"]
        if isinstance(self.sampler, ShuffledDistributedSampler):
            self.sampler.seed = self.seed
            self.sampler.set_epoch(state_dict["epoch"])

    def __len__(self) -> int:
        if not isinstance(self.sampler, ShuffledDistributedSampler):
            return super().__len__()
        smallest = min(2 * max(4, self.world_size), self.global_batch_size)  # the same batches for up to four processes
        return max(1, (len(self.dataset) + self.global_batch_size - smallest) // self.global_batch_size)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch names its private iterator
        batches = self._begin_epoch()
        first = self._first_batch()
        for number, listed in enumerate(batches):
            if number < first:
                continue
            indices = torch.as_tensor(listed, device=self.dataset.targets.device)
            self._seen = (number + 1) * self.global_batch_size
            images, targets = self.dataset.select(indices)
            if self.augment is not None:
                images = self.augment(images, self._random(number, len(indices), self.augment.num_random))
            yield images, targets

    def _begin_epoch(self) -> Iterable[Sequence[int] | Tensor]:
        """Return the indices of each batch of the next epoch in this process."""
        if not isinstance(self.sampler, ShuffledDistributedSampler):
            self._epoch += 1
            return self.batch_sampler or ()
        _require_world_size(self.world_size)
        share = self.sampler.next_order()[self.rank :: self.world_size].contiguous()
        self._epoch = self.sampler.epoch
        sizes = [self.global_batch_size // self.world_size] * (len(self) - 1)
        return torch.split(share, [*sizes, len(share) - sum(sizes)])

    def _first_batch(self) -> int:
        """Return the batch at which an iteration starts.

        Raises:
            UserError: If it would start where no batch starts, because the global batch size is another.
        """
        resumed, self._resumed, self._seen = self._resumed, None, 0
        if resumed is None or resumed["epoch"] != self._epoch:
            return 0
        self._seen, size = resumed["images"], resumed["global_batch_size"]
        if size != self.global_batch_size and 0 < self._seen < len(self.dataset):
            way_out = f"with --data.global_batch_size {size}"
            if size % self.world_size:
                way_out += f", on a number of devices that divides {size}"
            raise UserError(
                f"the epoch was begun with {size} images per step over all devices, and cannot be completed with "
                f"{self.global_batch_size}; resume {way_out}"
            )
        return self._seen // self.global_batch_size

    def _random(self, batch: int, n: int, num_random: int) -> Tensor:
        """Draw the random numbers of a global batch, and return those of the `n` images of this process."""
        generator = np.random.default_rng((self.seed, self._epoch, batch))
        drawn = generator.random((n * self.world_size, num_random), dtype=np.float32)
        return torch.from_numpy(drawn[self.rank :: self.world_size]).to(self.dataset.images.device)


def _require_world_size(built: int) -> None:
    """Refuse a loader of a share that is not that of one of the processes, each of which would see other images.

    Raises:
        UserError: If the loader was built for another number of processes.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        found = torch.distributed.get_world_size()
        if built != found:
            raise UserError(
                f"the data loader was built for {built} process{'es' if built > 1 else ''}, but there are {found}; "
                "build it when they have been started, with Fabric after `fabric.launch()`"
            )
