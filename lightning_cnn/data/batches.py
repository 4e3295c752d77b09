"""Batches of images that are in memory as one tensor, each taken in one operation.

A `torch.utils.data.DataLoader` is made for images that are read and decoded one by one; for these it takes twice as
long, 60 µs instead of 30 for a batch of 64 on a core of an AMD EPYC.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Images:
    """Images and what they show.

    Attributes:
        images: uint8, `(N, 1, 28, 28)`.
        targets: int64, `(N,)`, on the same device.
    """

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Batch:
        return self.images[index], self.targets[index]


class InOrder:
    """All images in their order, each exactly once over all processes together.

    Args:
        dataset: The images.
        batch_size: Images of a batch, at least 1; the last batch has what is left.
        rank: Which of the processes this is, from 0.
        world_size: How many processes share the images, at least 1.
    """

    def __init__(self, dataset: Images, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return math.ceil(len(self.dataset.targets[self.rank :: self.world_size]) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        share = slice(self.rank, None, self.world_size)
        images, targets = self.dataset.images[share], self.dataset.targets[share]
        yield from zip(torch.split(images, self.batch_size), torch.split(targets, self.batch_size), strict=True)


class Shuffled:
    """All images in an order that depends on nothing but the seed and the epoch.

    At each step all processes together see what one process with their batches joined would see. If the images cannot
    be shared out evenly, the first ones come again at the end. `state_dict` says how far an epoch is; whoever takes it
    up goes on there, with as many processes as they like if the joined batch stays the same.

    Args:
        dataset: The images.
        batch_size: Images of a batch in each process, at least 1. The last batch has what is left; if that is a single
            image, it joins the batch before, because batch normalisation cannot train on one.
        seed: That of the run, at least 0.
        rank: Which of the processes this is, from 0.
        world_size: How many processes share the images, at least 1.
    """

    def __init__(self, dataset: Images, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self._start = 0  # where the next iteration begins
        self._seen = 0

    @property
    def sampler(self) -> "Shuffled":
        """Itself: Lightning looks here for whom to tell the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order, before the epoch begins."""
        if epoch != self.epoch:
            self.epoch, self._start = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """Return how far it is: the epoch, and the batches of it that were seen."""
        return {"epoch": self.epoch, "seen": self._seen}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let the next iteration go on from there."""
        self.epoch, self._seen = state_dict["epoch"], state_dict["seen"]
        self._start = self._seen

    def __len__(self) -> int:
        alone = 1 if self.batch_size > 1 else 0
        return max(1, math.ceil((self._share() - alone) / self.batch_size))

    def __iter__(self) -> Iterator[Batch]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.dataset))
        whole = np.resize(order, self._share() * self.world_size)  # begins again at its end
        chosen = torch.from_numpy(whole[self.rank :: self.world_size].copy()).to(self.dataset.targets.device)
        first, self._start = self._start, 0
        for batch in range(first, len(self)):
            start = batch * self.batch_size
            indices = chosen[start:] if batch == len(self) - 1 else chosen[start : start + self.batch_size]
            self._seen = batch + 1
            # Ten times as fast as indexing with brackets.
            yield self.dataset.images.index_select(0, indices), self.dataset.targets.index_select(0, indices)

    def _share(self) -> int:
        """How many images each process sees."""
        return math.ceil(len(self.dataset) / self.world_size)
