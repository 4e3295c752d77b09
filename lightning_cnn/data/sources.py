"""Where the bytes of a dataset come from, and how they are verified.

Each source in turn is asked for the files that are still missing: the data folder, the system's package, mirrors, the
system's archive. Whatever a source says, only bytes with the right SHA-256 are taken, on every load.
"""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_cnn.data import idx
from lightning_cnn.data.archive import DebianArchive
from lightning_cnn.data.facts import FILES, TEST_IMAGES, TRAIN_IMAGES, DatasetFacts
from lightning_cnn.data.files import (
    GzipFiles,
    MissingError,
    RawFiles,
    Source,
    SourceError,
    UnreachableError,
    announce,
    locked,
    replace,
)
from lightning_cnn.data.mirrors import Mirror
from lightning_cnn.errors import DataError

_IMAGE_FILES = (TRAIN_IMAGES, TEST_IMAGES)


@dataclass(frozen=True)
class RawDataset:
    """A verified dataset in memory; the arrays are writable and belong to the caller.

    Attributes:
        train_images: Grey values, uint8, of shape (N, 28, 28).
        train_labels: Labels, uint8, of shape (N,).
        test_images: Grey values, uint8, of shape (M, 28, 28).
        test_labels: Labels, uint8, of shape (M,).
        origin: Where the bytes came from, for people to read.
        is_sample: Whether this is the small sample that ships with the package.
        origins: The path or address that each file came from, in the order of `FILES`.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]
    origin: str
    is_sample: bool
    origins: dict[str, str] = field(default_factory=dict)


def default_data_dir() -> Path:
    """Return the folder in the environment variable LIGHTNING_CNN_DATA_DIR, or else ``data``."""
    return Path(os.environ.get("LIGHTNING_CNN_DATA_DIR") or "data")


def raw_folder(facts: DatasetFacts, data_dir: Path) -> Path:
    """Return the folder of the four files, where torchvision has it as well."""
    return data_dir.expanduser() / facts.folder / "raw"


def load(facts: DatasetFacts, data_dir: Path, allow_sample: bool = False) -> RawDataset:
    """Return the dataset, fetched into `data_dir` first if it is nowhere on this machine.

    Args:
        facts: The dataset.
        data_dir: The folder that holds ``<facts.folder>/raw/``. It may be read-only if the files are there.
        allow_sample: Whether the small sample that ships with the package will do when nothing else can be had.

    Raises:
        DataError: If no source has the files, or what is fetched cannot be stored.
    """
    try:
        return _load_complete(facts, raw_folder(facts, data_dir))
    except DataError as error:
        if not allow_sample:
            raise
        announce(str(error).splitlines()[0])
    return load_sample(facts)


def load_sample(facts: DatasetFacts) -> RawDataset:
    """Return the small sample that ships with the package, and say loudly that it is one.

    Raises:
        DataError: If there is none, or it is damaged.
    """
    search = _Search(facts, facts.sample_sha256)
    search.ask([sample_source(facts)])
    if search.missing:
        raise DataError(f"this package has no sound sample of {facts.title}:\n{search.report()}")
    sample = search.dataset(is_sample=True)
    n_train, n_test = len(sample.train_labels), len(sample.test_labels)
    announce(
        f"WARNING: THIS IS A SAMPLE of {n_train + n_test:,} images of {facts.title} ({n_train:,} to train, {n_test:,} "
        "to test). Figures will be worse than with the whole dataset, and cannot be compared with published ones."
        + (f" {facts.sample_note}" if facts.sample_note else "")
    )
    return sample


def local_sources(facts: DatasetFacts, folder: Path) -> list[Source]:
    """Return the sources on this machine, in the order to ask them; `folder` is the dataset's `raw_folder`."""
    sources: list[Source] = [RawFiles(folder), GzipFiles(folder)]
    if facts.system_folder is not None:
        sources.append(GzipFiles(Path(facts.system_folder)))
    return sources


def remote_sources(facts: DatasetFacts) -> list[Source]:
    """Return the sources in the net, in the order to ask them."""
    sources: list[Source] = [Mirror(address) for address in facts.mirrors]
    if facts.debian_package is not None and facts.system_folder is not None:
        sources.append(DebianArchive(facts.debian_package, facts.system_folder))
    return sources


def sample_source(facts: DatasetFacts) -> Source:
    """Return the sample that ships with the package."""
    return GzipFiles(Path(__file__).parent / "samples" / facts.name)


def read_verified(
    source: Source, file: str, facts: DatasetFacts, sha256: dict[str, str]
) -> tuple[bytes, NDArray[np.uint8]]:
    """Return the raw bytes of a file and the array in them; what is hashed is what is decoded.

    Raises:
        SourceError: If the source does not have the file, or has other bytes than these of `sha256`.
    """
    if file not in sha256:
        raise MissingError("no SHA-256 is known for it")
    content = source.read(file)
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256[file]:
        raise SourceError(f"SHA-256 is {digest[:16]}…, expected {sha256[file][:16]}…")
    try:
        if file in _IMAGE_FILES:
            return content, idx.decode_images(content)
        return content, idx.decode_labels(content, len(facts.classes))
    except idx.IdxError as error:
        raise SourceError(f"not the IDX file it should be: {error}") from error


def _load_complete(facts: DatasetFacts, folder: Path) -> RawDataset:
    search = _Search(facts, facts.sha256)
    search.ask(local_sources(facts, folder))
    if search.missing and (remote := remote_sources(facts)):
        with locked(folder):
            # Another process may have fetched the files while this one waited for the lock.
            search.ask([RawFiles(folder)])
            search.ask(remote, store_in=folder)
    if search.missing:
        raise DataError(_way_out(search, folder))
    return search.dataset()


class _Search:
    """The sound files found so far, and why each source asked did not have the others."""

    def __init__(self, facts: DatasetFacts, sha256: dict[str, str]) -> None:
        self.facts = facts
        self.sha256 = sha256
        self.arrays: dict[str, NDArray[np.uint8]] = {}
        self.origins: dict[str, str] = {}
        self.used: dict[str, None] = {}  # the names of the sources that had something, in order
        self.failures: dict[str, dict[str, list[str]]] = {}  # source → reason → files; no files: the source as a whole

    @property
    def missing(self) -> list[str]:
        return [file for file in FILES if file not in self.arrays]

    def ask(self, sources: Iterable[Source], store_in: Path | None = None) -> None:
        """Ask each source for the files that are still missing, and store what it sends, if a folder is given."""
        for source in sources:
            for file in self.missing:
                try:
                    content, array = read_verified(source, file, self.facts, self.sha256)
                except SourceError as error:
                    self._note(source, file, error)
                    if isinstance(error, UnreachableError):
                        break
                    continue
                if store_in is not None:
                    _store(store_in / file, content)
                self.arrays[file] = array
                self.origins[file] = source.where(file)
                self.used[source.name] = None

    def _note(self, source: Source, file: str, error: SourceError) -> None:
        files = self.failures.setdefault(source.name, {}).setdefault(str(error), [])
        if isinstance(error, UnreachableError):
            announce(f"{source.name} is skipped: {error}")
        elif file not in files:  # a folder is asked twice, before and after the lock is had
            files.append(file)
            if not isinstance(error, MissingError):
                announce(f"{source.where(file)} is not used: {error}")

    def report(self) -> str:
        """Return one line for each source and reason."""
        return "\n".join(
            f"  - {source}: {why}{_named(files)}"
            for source, failures in self.failures.items()
            for why, files in failures.items()
        )

    def dataset(self, is_sample: bool = False) -> RawDataset:
        train_images, train_labels, test_images, test_labels = (self.arrays[file] for file in FILES)
        for images, labels in ((train_images, train_labels), (test_images, test_labels)):
            if len(images) != len(labels):
                raise DataError(f"{self.facts.title} has {len(images):,} images but {len(labels):,} labels")
        origin = "the sample that ships with this package" if is_sample else ", ".join(self.used)
        origins = {file: self.origins[file] for file in FILES}
        return RawDataset(train_images, train_labels, test_images, test_labels, origin, is_sample, origins)


def _named(files: list[str]) -> str:
    if not files:
        return ""
    return f" ({'all four files' if len(files) == len(FILES) else ', '.join(files)})"


def _store(path: Path, content: bytes) -> None:
    damaged = path.exists()
    replace(path, content)
    announce(f"{path} was damaged and has been replaced" if damaged else f"stored {path}")


def _way_out(search: _Search, folder: Path) -> str:
    sample = bool(search.facts.sample_sha256)
    files = "\n".join(f"  {file:<23}  (SHA-256 {search.sha256.get(file, 'unknown')})" for file in FILES)
    return (
        f"{search.facts.title} is not in {folder} and cannot be fetched.\n"
        "What was tried:\n"
        f"{search.report()}\n"
        f"Put these four files into {folder}, as they are or gzipped (.gz):\n"
        f"{files}\n"
        f"or, if you have {search.facts.folder}/raw/ with them elsewhere, name the folder that holds it with\n"
        "`--data.data_dir` or the environment variable LIGHTNING_CNN_DATA_DIR"
        + (
            ", or make do with the small sample that\nships with this package: `--data.allow_sample true`."
            if sample
            else "."
        )
    )
