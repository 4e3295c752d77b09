"""Images that all processes of a machine have in memory together, once."""

import shutil
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
    folder = None if mine is None else _write(mine)
    places: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(places, (machine, folder, len(mine or ())))
    ours, count = next((place, count) for number, place, count in places if number == machine and place)
    images = [Images(_map(ours / f"images{i}.npy"), _map(ours / f"targets{i}.npy")) for i in range(count)]
    torch.distributed.barrier()  # until all have mapped them; then they stay without a name, and end with the processes
    if folder is not None:
        shutil.rmtree(folder)
    return images


def _write(sets: Sequence[Images]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="lightning_cnn-"))
    for i, images in enumerate(sets):
        np.save(folder / f"images{i}.npy", images.images.numpy())
        np.save(folder / f"targets{i}.npy", images.targets.numpy())
    return folder


def _map(path: Path) -> Tensor:
    # "c": written pages become this process's own; tensors cannot be read only.
    return torch.from_numpy(np.load(path, mmap_mode="c"))
