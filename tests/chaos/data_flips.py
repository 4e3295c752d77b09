"""Damaged dataset files, raw and gzipped: none of them may be loaded.

Most tries call the function that `sources.load` calls for each file; the others call `load` itself, or
`lightning-cnn data verify`.
"""

import dataclasses
import gzip
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from unittest import mock

import numpy as np
from chaos.common import Outcome
from idx import write_idx_dataset

from lightning_cnn.cli import main
from lightning_cnn.commands import data as data_command
from lightning_cnn.data.facts import FILES, TEST_IMAGES, DatasetFacts
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.files import MAX_BYTES, GzipFiles, RawFiles, Source, SourceError
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.data.sources import RawDataset, load, raw_folder, read_verified
from lightning_cnn.errors import DataError


@dataclass(frozen=True)
class Copy:
    """A valid dataset in a folder of its own, raw or gzipped, and its content."""

    facts: DatasetFacts
    data_dir: Path
    source: Source
    valid: RawDataset

    def path(self, file: str) -> Path:
        """Return where a file is."""
        return Path(self.source.where(file))


# Each fault writes `path`, which does not exist, from the valid file.


def _cut(valid: Path, path: Path, rng: Random) -> None:
    shutil.copyfile(valid, path)
    os.truncate(path, rng.randrange(1, valid.stat().st_size))


def _append(valid: Path, path: Path, rng: Random) -> None:
    shutil.copyfile(valid, path)
    with path.open("ab") as file:
        file.write(rng.choice([b"\1", rng.randbytes(20), gzip.compress(b"\0"), b"\x1f\x8b"]))


def _empty(valid: Path, path: Path, rng: Random) -> None:
    path.touch()


def _exchange(valid: Path, path: Path, rng: Random) -> None:
    """Use another file of the dataset: labels for images, test for training."""
    shutil.copyfile(rng.choice([other for other in path.parent.iterdir() if other != valid]), path)


def _pack(valid: Path, path: Path, rng: Random) -> None:
    """Gzip the file, once more if it is gzipped."""
    path.write_bytes(gzip.compress(valid.read_bytes()[:1_000_000], 1))


def _bomb(valid: Path, path: Path, rng: Random) -> None:
    path.write_bytes(_bomb_bytes())


@cache
def _bomb_bytes() -> bytes:
    return gzip.compress(bytes(MAX_BYTES + 1), 1)


def _folder(valid: Path, path: Path, rng: Random) -> None:
    path.mkdir()


def _pipe(valid: Path, path: Path, rng: Random) -> None:
    os.mkfifo(path)


def _device(valid: Path, path: Path, rng: Random) -> None:
    path.symlink_to("/dev/zero")


def _missing(valid: Path, path: Path, rng: Random) -> None:
    path.symlink_to("nowhere")


Fault = Callable[[Path, Path, Random], None]
FAULTS: tuple[Fault, ...] = (_cut, _append, _empty, _exchange, _pack, _bomb, _folder, _pipe, _device, _missing)


@contextmanager
def _replaced(path: Path, fault: Fault, rng: Random) -> Iterator[str]:
    """Replace a file by a damaged one, and yield a description."""
    valid = path.with_name(f"{path.name}.valid")
    path.rename(valid)
    fault(valid, path, rng)
    try:
        yield fault.__name__.strip("_")
    finally:
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
        valid.rename(path)


@contextmanager
def _changed(path: Path, rng: Random) -> Iterator[str]:
    """Change a byte of a file."""
    place, change = _place(path.stat().st_size, rng), rng.randrange(1, 256)
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ change]))
        file.flush()
        try:
            yield f"byte {place:,} changed from {byte} to {byte ^ change}"
        finally:
            file.seek(place)
            file.write(bytes([byte]))


def _place(size: int, rng: Random) -> int:
    """Any byte, but in a fifth of the tries one of the header or of the end."""
    ends = [*range(min(20, size)), *range(max(0, size - 10), size)]
    return rng.choice(ends) if rng.random() < 0.2 else rng.randrange(size)


# Each reader returns what is wrong, if anything.


def _read(copy: Copy, file: str) -> str:
    """Read the file as `sources.load` does."""
    try:
        content, _ = read_verified(copy.source, file, copy.facts, copy.facts.sha256)
    except SourceError as error:
        return "" if str(error) else "refused without a reason"
    same = content == _valid_bytes(copy, file)
    return "" if same else "was loaded, with other bytes"


def _load(copy: Copy, file: str) -> str:
    """Load the whole dataset."""
    errors = io.StringIO()
    try:
        with redirect_stderr(errors):
            dataset = load(copy.facts, copy.data_dir)
    except DataError as error:
        printed = f"{errors.getvalue()}{error}"
        return "" if file in printed and "Put these four files into" in printed else f"no advice: {printed}"
    same = all(np.array_equal(getattr(dataset, name), getattr(copy.valid, name)) for name in _ARRAYS)
    return "" if same else "was loaded, with other images or labels"


_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def _verify(copy: Copy, file: str) -> str:
    """Verify the dataset with the command."""
    name, output = copy.facts.name, io.StringIO()
    with mock.patch.dict(data_command.DATASETS, {name: copy.facts}), redirect_stdout(output):
        status = main(["data", "verify", name, "--data_dir", str(copy.data_dir)])
    lines = output.getvalue().splitlines()
    if status == 0:
        wrong = _read(copy, file)
        return wrong and f"`data verify` calls it valid: {wrong}"
    is_named = any(file in line and line.split()[0] in ("INVALID", "missing") for line in lines)
    return "" if is_named and "data fetch" in lines[-1] else f"`data verify` says: {lines}"


def _valid_bytes(copy: Copy, file: str) -> bytes:
    """Return the bytes that the file should have, header and all."""
    array = getattr(copy.valid, _ARRAYS[FILES.index(file)])
    lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.tobytes()


#: The readers, and their shares of the tries; the first is by far the fastest.
READERS, SHARES = (_read, _load, _verify), (0.92, 0.04, 0.04)
#: Share of the tries in which only one byte is changed.
FLIPS = 0.8


def run(tries: int, seed: int, folder: Path) -> Outcome:
    """Damage a file of a dataset, read it, and restore it, `tries` times.

    Uses the real datasets in LIGHTNING_CNN_DATA_DIR, or else tiny ones.
    """
    rng = Random(seed)
    copies = [copy for facts in (MNIST, FASHION_MNIST) for copy in _copies(facts, folder)]
    lost = []
    for number in range(tries):
        copy, file = rng.choice(copies), rng.choice(FILES)
        path = copy.path(file)
        (reader,) = rng.choices(READERS, SHARES)
        with _changed(path, rng) if rng.random() < FLIPS else _replaced(path, rng.choice(FAULTS), rng) as what:
            if wrong := reader(copy, file):
                lost.append(f"seed {seed}, try {number}: {path.relative_to(folder)}, {what}: {wrong}")
    lost += [f"{copy.path(file)}: not restored" for copy in copies for file in FILES if _read(copy, file)]
    size = len(copies[0].valid.train_labels)
    return Outcome(f"bytes changed in data files (of {size:,} training images)", tries, lost)


def _copies(facts: DatasetFacts, folder: Path) -> Iterator[Copy]:
    """Write a raw and a gzipped copy of a dataset."""
    given = raw_folder(facts, Path(os.environ.get("LIGHTNING_CNN_DATA_DIR") or "nowhere"))
    raw, packed = folder / "raw", folder / "gz"
    if (given / f"{TEST_IMAGES}.gz").is_file():
        facts = dataclasses.replace(facts, mirrors=(), system_folder=None, debian_package=None)
        for data_dir in (raw, packed):
            raw_folder(facts, data_dir).mkdir(parents=True)
        for file in FILES:
            content = (given / f"{file}.gz").read_bytes()
            (raw_folder(facts, packed) / f"{file}.gz").write_bytes(content)
            (raw_folder(facts, raw) / file).write_bytes(gzip.decompress(content))
    else:
        write_idx_dataset(packed, facts, compress=True)
        facts = write_idx_dataset(raw, facts)
    valid = load(facts, raw)
    yield Copy(facts, raw, RawFiles(raw_folder(facts, raw)), valid)
    yield Copy(facts, packed, GzipFiles(raw_folder(facts, packed)), valid)
