"""Images that all processes of a node share in memory, once."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_cnn.data.batches import Images


def share(images: Sequence[Images] | None, node_rank: int) -> list[Images]:
    """Return the images that one process of this node has loaded, in all of its processes. A collective call.

    The images are memory-mapped from a temporary file, so that the node has them in memory once. Writes of a process
    into its tensors are private.

    Args:
        images: The images, in main memory, in one process of each node; None in the others.
        node_rank: Rank of the node.
    """
    with tempfile.TemporaryDirectory(prefix="lightning_cnn-") as folder:
        for i, part in enumerate(images or ()):
            np.save(Path(folder, f"images{i}.npy"), part[:][0].numpy())
            np.save(Path(folder, f"targets{i}.npy"), part.targets.numpy())
        loaded: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(loaded, (node_rank, folder, len(images or ())))
        source, count = next((Path(folder), count) for node, folder, count in loaded if node == node_rank and count)
        shared = [Images(_map(source / f"images{i}.npy"), _map(source / f"targets{i}.npy")) for i in range(count)]
        torch.distributed.barrier()  # the files can be removed once all processes have mapped them
    return shared


def _map(path: Path) -> Tensor:
    # "c" (copy on write), because tensors cannot be read-only.
    return torch.from_numpy(np.load(path, mmap_mode="c"))
