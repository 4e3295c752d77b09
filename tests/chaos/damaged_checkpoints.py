"""Damaged checkpoints: each is refused in one line, or read with exactly the content that was written."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from chaos.common import Outcome, differences, saved
from torch.nn.functional import cross_entropy

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.checkpoint import safetensors as shared
from lightning_cnn.classifiers import FastCNNClassifier
from lightning_cnn.errors import UserError

#: Bytes of a block of a disk.
_BLOCK = 512


def change_a_byte(data: bytearray, rng: random.Random) -> str:
    at = rng.randrange(len(data))
    before = data[at]
    data[at] = rng.choice([before ^ 1 << rng.randrange(8), rng.randrange(256)])
    return f"byte {at} from {before} to {data[at]}"


def change_the_format(data: bytearray, rng: random.Random) -> str:
    """Change a byte of the file format: most other bytes belong to weights."""
    marks = [at for at in range(len(data) - 1) if data[at : at + 2] in (b"PK", b'{"', b"q\x00", b"cc", b"ct")]
    at = min(rng.choice(marks) + rng.randrange(60), len(data) - 1)
    before = data[at]
    data[at] = rng.randrange(256)
    return f"byte {at} from {before} to {data[at]}"


def cut(data: bytearray, rng: random.Random) -> str:
    size = rng.randrange(len(data))
    del data[size:]
    return f"cut to {size} bytes"


def append(data: bytearray, rng: random.Random) -> str:
    more = rng.choice([bytes(rng.randrange(1, 2000)), rng.randbytes(rng.randrange(1, 2000)), bytes(data)])
    data += more
    return f"{len(more)} bytes appended"


def drop(data: bytearray, rng: random.Random) -> str:
    at, size = rng.randrange(len(data)), rng.randrange(1, _BLOCK)
    del data[at : at + size]
    return f"{size} bytes dropped at {at}"


def swap(data: bytearray, rng: random.Random) -> str:
    first, second = (number * _BLOCK for number in rng.sample(range(len(data) // _BLOCK), 2))
    one, other = data[first : first + _BLOCK], data[second : second + _BLOCK]
    data[first : first + _BLOCK], data[second : second + _BLOCK] = other, one
    return f"blocks at {first} and {second} swapped"


def clear(data: bytearray, rng: random.Random) -> str:
    size = rng.choice([_BLOCK, 8 * _BLOCK])
    at = rng.randrange(len(data) // size) * size
    data[at : at + size] = bytes(len(data[at : at + size]))
    return f"{size} bytes zeroed at {at}"


DAMAGES: list[Callable[[bytearray, random.Random], str]] = [
    *(change_a_byte, change_a_byte, change_the_format, change_the_format, cut, append, drop, swap, clear)
]


def content(seed: int) -> dict[str, Any]:
    """Return the content of a checkpoint of a small network after its first step."""
    torch.manual_seed(seed)
    classifier = FastCNNClassifier(channels=4, hidden=4)
    optimizer = torch.optim.Adam(classifier.parameters())
    cross_entropy(classifier(torch.zeros(2, 1, 28, 28, dtype=torch.uint8)), torch.tensor([3, 7])).backward()
    optimizer.step()
    path = "lightning_cnn.classifiers.FastCNNClassifier"
    return {
        "state_dict": dict(classifier.state_dict()),
        "optimizer_states": [optimizer.state_dict()],
        "hyper_parameters": dict(classifier.hparams),
        "pytorch-lightning_version": "2.6.6",
        "epoch": 0,
        "global_step": 1,
        checkpoints.KEY: {
            "format": checkpoints.FORMAT,
            "config": {"model": {"class_path": path, "init_args": dict(classifier.hparams)}},
            "class_names": list("0123456789"),
            "framing": {"side": 20, "by_mass": True},
            "metrics": {"val/acc": 0.25},
            "preprocessing": {"mean": 0.0, "std": 1.0},
            "versions": {"lightning-cnn": "1.0", "torch": "2.15.0"},
        },
    }


FORMATS: dict[str, Callable[[dict[str, Any]], bytes]] = {".ckpt": saved, shared.SUFFIX: shared.dump}


def run(tries: int, seed: int, folder: Path) -> Outcome:
    """Damage checkpoints of both formats, and read them."""
    outcome = Outcome("damaged checkpoints", tries)
    rng = random.Random(seed)
    valid = {suffix: dump(content(seed)) for suffix, dump in FORMATS.items()}
    written = {}
    for suffix, data in valid.items():
        (folder / f"valid{suffix}").write_bytes(data)
        written[suffix] = checkpoints.read(folder / f"valid{suffix}")
    for number in range(tries):
        suffix = rng.choice([*FORMATS])
        damaged = bytearray(valid[suffix])
        done = rng.choice(DAMAGES)(damaged, rng)
        if found := verdict(bytes(damaged), written[suffix], folder / f"damaged{suffix}"):
            outcome.lost.append(f"{suffix}, {done}: {found} (seed {seed}, try {number})")
    return outcome


def verdict(damaged: bytes, written: dict[str, Any], path: Path) -> str | None:
    """Return what is wrong with the reading of a damaged file; None if it is refused in one line or read as written."""
    path.write_bytes(damaged)
    try:
        found = checkpoints.read(path)
    except UserError as error:
        line = str(error)
        return None if "\n" not in line and str(path) in line else f"an unclear error: {line!r}"
    except Exception as error:  # noqa: BLE001  # it is reported
        return f"{type(error).__name__}: {error}"
    return "it was read, with other content" if any(differences(found, written)) else None
