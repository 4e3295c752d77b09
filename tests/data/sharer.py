"""One of two processes that share images; prints its measurements as JSON.

`python -m data.sharer RANK INIT_FILE`: the rank, 0 or 1, and the file of `init_process_group`, for both the same.
"""

import json
import sys
from pathlib import Path

import torch

from lightning_cnn.data.batches import Images
from lightning_cnn.data.sharing import share

N = 5_000


def sets(seed: int) -> list[Images]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (N, 1, 28, 28), dtype=torch.uint8, generator=generator)
    return [Images(images, torch.arange(N)), Images(images[:10].clone(), torch.arange(10))]


def mapping(tensor: torch.Tensor) -> dict[str, str | int]:
    """Return the mapping of a tensor in /proc/self/smaps: its file, and sizes in KiB."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    for number, line in enumerate(lines):
        head = line.split()
        start, dash, end = head[0].partition("-")
        if dash and int(start, 16) <= tensor.data_ptr() < int(end, 16):
            sizes = (entry.split() for entry in lines[number + 1 : number + 20])
            kib = {name.rstrip(":"): int(size) for name, size, *_ in sizes if name in ("Rss:", "Pss:", "Anonymous:")}
            return {"file": f"{head[3]} {head[4]}", "path": " ".join(head[5:]), **kib}
    raise AssertionError(f"{tensor.data_ptr():x} is not mapped")


def main(rank: int, init_file: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{init_file}", rank=rank, world_size=2)
    train, val = share(sets(0) if rank == 0 else None, node_rank=0)
    expected = sets(0)
    found = {"same": [bool(train.images.eq(expected[0].images).all()), bool(val.targets.eq(expected[1].targets).all())]}
    torch.distributed.barrier()  # both have read all of it
    found["read"] = mapping(train.images)
    torch.distributed.barrier()

    if rank == 1:
        train.images[0] = 7
    torch.distributed.barrier()
    found["written"] = mapping(train.images) | {"first": train.images[0].unique().tolist()[:2]}
    torch.distributed.barrier()

    ours, _ = share(sets(rank), node_rank=rank)
    found["own node"] = [bool(ours.images.eq(sets(seed)[0].images).all()) for seed in (0, 1)]
    print(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
