"""Changed bytes, and worse, in the files of the datasets, raw and gzipped: none of them may be loaded.

Most tries ask the function that `sources.load` calls for each file; some go through all of `load`, or through
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
    """A sound dataset in a folder of its own, raw or gzipped, and what it holds."""

    facts: DatasetFacts
    data_dir: Path
    source: Source
    sound: RawDataset

    def path(self, file: str) -> Path:
        """Return where a file is."""
        return Path(self.source.where(file))


# What is done to a file: each function writes `path`, which is not there, from the sound file.


def _cut(sound: Path, path: Path, rng: Random) -> None:
    shutil.copyfile(sound, path)
    os.truncate(path, rng.randrange(1, sound.stat().st_size))


def _append(sound: Path, path: Path, rng: Random) -> None:
    shutil.copyfile(sound, path)
    with path.open("ab") as file:
        file.write(rng.choice([b"\1", rng.randbytes(20), gzip.compress(b"\0"), b"\x1f\x8b"]))


def _empty(sound: Path, path: Path, rng: Random) -> None:
    path.touch()


def _exchange(sound: Path, path: Path, rng: Random) -> None:
    """Take another file of the dataset: labels for images, test for training."""
    shutil.copyfile(rng.choice([other for other in path.parent.iterdir() if other != sound]), path)


def _pack(sound: Path, path: Path, rng: Random) -> None:
    """Gzip what is raw, and what is gzipped once more."""
    path.write_bytes(gzip.compress(sound.read_bytes()[:1_000_000], 1))


def _bomb(sound: Path, path: Path, rng: Random) -> None:
    path.write_bytes(_bomb_bytes())


@cache
def _bomb_bytes() -> bytes:
    return gzip.compress(bytes(MAX_BYTES + 1), 1)


def _folder(sound: Path, path: Path, rng: Random) -> None:
    path.mkdir()


def _pipe(sound: Path, path: Path, rng: Random) -> None:
    os.mkfifo(path)


def _device(sound: Path, path: Path, rng: Random) -> None:
    path.symlink_to("/dev/zero")


def _missing(sound: Path, path: Path, rng: Random) -> None:
    path.symlink_to("nowhere")


Fault = Callable[[Path, Path, Random], None]
FAULTS: tuple[Fault, ...] = (_cut, _append, _empty, _exchange, _pack, _bomb, _folder, _pipe, _device, _missing)


@contextmanager
def _replaced(path: Path, fault: Fault, rng: Random) -> Iterator[str]:
    """Put something else in the place of a file, and yield in words what it is."""
    sound = path.with_name(f"{path.name}.sound")
    path.rename(sound)
    fault(sound, path, rng)
    try:
        yield fault.__name__.strip("_")
    finally:
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
        sound.rename(path)


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
    """Anywhere, but one in five times in the first or last bytes, which mean more than the others."""
    ends = [*range(min(20, size)), *range(max(0, size - 10), size)]
    return rng.choice(ends) if rng.random() < 0.2 else rng.randrange(size)


# Who looks at it. Each returns what is wrong, if anything.


def _read(copy: Copy, file: str) -> str:
    """Read the file as `sources.load` does."""
    try:
        content, _ = read_verified(copy.source, file, copy.facts, copy.facts.sha256)
    except SourceError as error:
        return "" if str(error) else "refused without a reason"
    same = content == _sound_bytes(copy, file)
    return "" if same else "was loaded, with other bytes"


def _load(copy: Copy, file: str) -> str:
    """Load the whole dataset."""
    errors = io.StringIO()
    try:
        with redirect_stderr(errors):
            dataset = load(copy.facts, copy.data_dir)
    except DataError as error:
        told = f"{errors.getvalue()}{error}"
        return "" if file in told and "Put these four files into" in told else f"told nothing of use: {told}"
    same = all(np.array_equal(getattr(dataset, name), getattr(copy.sound, name)) for name in _ARRAYS)
    return "" if same else "was loaded, with other images or labels"


_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def _verify(copy: Copy, file: str) -> str:
    """Let the command line look at it."""
    name, output = copy.facts.name, io.StringIO()
    with mock.patch.dict(data_command.DATASETS, {name: copy.facts}), redirect_stdout(output):
        status = main(["data", "verify", name, "--data_dir", str(copy.data_dir)])
    lines = output.getvalue().splitlines()
    if status == 0:
        wrong = _read(copy, file)
        return wrong and f"`data verify` calls it valid: {wrong}"
    told = any(file in line and line.split()[0] in ("INVALID", "missing") for line in lines)
    return "" if told and "data fetch" in lines[-1] else f"`data verify` says: {lines}"


def _sound_bytes(copy: Copy, file: str) -> bytes:
    """Return the bytes that the file should have, header and all."""
    array = getattr(copy.sound, _ARRAYS[FILES.index(file)])
    lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.tobytes()


#: Who looks, and in which share of the tries; the first is the quickest by far.
LOOKS, SHARES = (_read, _load, _verify), (0.92, 0.04, 0.04)
#: Share of the tries in which one byte is changed, and nothing worse is done.
FLIPS = 0.8


def run(tries: int, seed: int, folder: Path) -> Outcome:
    """Damage a file of a dataset, look whether it is refused, and mend it again: `tries` times.

    The datasets are the real ones of the folder LIGHTNING_CNN_DATA_DIR, if they are there, or else tiny ones.
    """
    rng = Random(seed)
    copies = [copy for facts in (MNIST, FASHION_MNIST) for copy in _copies(facts, folder)]
    lost = []
    for number in range(tries):
        copy, file = rng.choice(copies), rng.choice(FILES)
        path = copy.path(file)
        (look,) = rng.choices(LOOKS, SHARES)
        with _changed(path, rng) if rng.random() < FLIPS else _replaced(path, rng.choice(FAULTS), rng) as what:
            if wrong := look(copy, file):
                lost.append(f"seed {seed}, try {number}: {path.relative_to(folder)}, {what}: {wrong}")
    lost += [f"{copy.path(file)}: not sound any more" for copy in copies for file in FILES if _read(copy, file)]
    size = len(copies[0].sound.train_labels)
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
    sound = load(facts, raw)
    yield Copy(facts, raw, RawFiles(raw_folder(facts, raw)), sound)
    yield Copy(facts, packed, GzipFiles(raw_folder(facts, packed)), sound)
