"""Images that all processes of a machine have in memory together, once."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_cnn.data.batches import Images


def share(mine: Sequence[Images] | None, machine: int) -> list[Images]:
    """Return the images that one process of this machine has, in all of its processes; they all call this together.

    The images are mapped from a file, whose pages the system keeps once for all of them. What one of them writes into
    its tensors, no other sees.

    Args:
        mine: What this process has, in main memory; None in all processes of the machine but one.
        machine: The number of the machine among those of the run.
    """
    with tempfile.TemporaryDirectory(prefix="lightning_cnn-") as folder:
        if mine is not None:
            _write(mine, Path(folder))
        places: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(places, (machine, folder, len(mine or ())))
        ours, count = next((Path(place), count) for number, place, count in places if number == machine and count)
        images = [Images(_map(ours / f"images{i}.npy"), _map(ours / f"targets{i}.npy")) for i in range(count)]
        torch.distributed.barrier()  # until all have mapped them; they need no name from then on
    return images


def _write(sets: Sequence[Images], folder: Path) -> None:
    for i, images in enumerate(sets):
        np.save(folder / f"images{i}.npy", images.images.numpy())
        np.save(folder / f"targets{i}.npy", images.targets.numpy())


def _map(path: Path) -> Tensor:
    # "c": written pages become this process's own; tensors cannot be read only.
    return torch.from_numpy(np.load(path, mmap_mode="c"))
