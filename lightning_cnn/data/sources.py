"""Where the bytes of a dataset come from, and how they are verified.

Each source in turn is asked for the files that are still missing: the data folder, the system's package, mirrors, the
system's archive. At every load, and from every source, only bytes with the known SHA-256 are accepted.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
)
from lightning_cnn.data.mirrors import Mirror, user_mirrors
from lightning_cnn.errors import DataError
from lightning_cnn.files import atomic_write, local_path


@dataclass(frozen=True)
class RawDataset:
    """A verified dataset in memory; the arrays are writable and belong to the caller.

    Attributes:
        train_images: Grey values, uint8, of shape (N, H, W).
        train_labels: Labels, uint8, of shape (N,).
        test_images: Grey values, uint8, of shape (M, H, W).
        test_labels: Labels, uint8, of shape (M,).
        origin: The sources of the bytes, as text.
        is_sample: Whether this is the small sample that ships with the package.
        origins: The path or address of each file, in the order of `FILES`.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]
    origin: str
    is_sample: bool
    origins: dict[str, str]


def default_data_dir() -> Path:
    """Return the folder in the environment variable LIGHTNING_CNN_DATA_DIR, or else ``data``."""
    return local_path(os.environ.get("LIGHTNING_CNN_DATA_DIR") or "data", "LIGHTNING_CNN_DATA_DIR")


def raw_folder(facts: DatasetFacts, data_dir: Path) -> Path:
    """Return the folder of the four files, in torchvision's layout."""
    return data_dir.expanduser() / facts.folder / "raw"


def load(
    facts: DatasetFacts, data_dir: Path, allow_sample: bool = False, mirrors: Sequence[str] | str | None = None
) -> RawDataset:
    """Return the dataset, downloaded into `data_dir` first if it is not on this machine.

    Args:
        facts: The dataset.
        data_dir: The folder that holds ``<facts.folder>/raw/``. It may be read-only if the files are there.
        allow_sample: Whether to return the small sample that ships with the package if the dataset is not available.
        mirrors: Addresses of the user's mirrors, as for `user_mirrors`; they are asked before those of the dataset.

    Raises:
        UserError: If the address of a mirror is none.
        DataError: If no source has the files, or a download cannot be stored.
    """
    folder = raw_folder(facts, data_dir)
    search = _Search(facts, facts.sha256)
    try:
        search.ask(local_sources(facts, data_dir))
        if search.missing and (remote := _remote_sources(facts, mirrors)):
            with locked(folder):
                search.ask([RawFiles(folder)])  # another process may have downloaded them in the meantime
                search.ask(remote, store_in=folder)
        if search.missing:
            raise DataError(_not_available(search, folder))
        return search.dataset()
    except DataError as error:
        if not allow_sample:
            raise
        announce(str(error).splitlines()[0])
        return load_sample(facts)


def load_sample(facts: DatasetFacts) -> RawDataset:
    """Return the small sample that ships with the package, with a warning that it is one.

    Raises:
        DataError: If there is none, or it is damaged.
    """
    search = _Search(facts, facts.sample_sha256)
    search.ask([sample_source(facts)])
    if search.missing:
        raise DataError(f"this package has no valid sample of {facts.title}:\n{search.report()}")
    sample = search.dataset(is_sample=True)
    n_train, n_test = len(sample.train_labels), len(sample.test_labels)
    announce(
        f"WARNING: THIS IS A SAMPLE of {n_train + n_test:,} images of {facts.title} ({n_train:,} for training, "
        f"{n_test:,} for testing). Accuracies are lower than with the full dataset and cannot be compared with "
        f"published ones. {facts.sample_note}".rstrip()
    )
    return sample


def local_sources(facts: DatasetFacts, data_dir: Path) -> list[Source]:
    """Return the sources on this machine in the order to try.

    These are the dataset's `raw_folder`, folders in which other programs put it, if they have any of its files, and
    the system's package.
    """
    folder = raw_folder(facts, data_dir)
    names = dict.fromkeys((facts.folder, facts.title, facts.title.lower(), facts.name))
    parents = [data_dir.expanduser() / name for name in names]
    folders = {path.resolve(): path for parent in parents for path in (parent / "raw", parent)}
    others = [kind(path) for path in folders.values() if path != folder for kind in (RawFiles, GzipFiles)]
    system = [GzipFiles(Path(facts.system_folder))] if facts.system_folder else []
    return [RawFiles(folder), GzipFiles(folder), *(other for other in others if other.has_any(FILES)), *system]


def _remote_sources(facts: DatasetFacts, mirrors: Sequence[str] | str | None) -> list[Source]:
    """Return the sources in the network in the order to try: the user's mirrors, the dataset's, Debian's archive.

    A mirror of the user's is a folder with the gzipped files, or one that has them as data folders do.
    """
    folders = ("", f"/{facts.folder}/raw")
    sources: list[Source] = [
        Mirror(f"{address}{folder}", is_users=True) for address in user_mirrors(mirrors) for folder in folders
    ]
    sources += [Mirror(address) for address in facts.mirrors]
    if facts.debian_package and facts.system_folder:
        sources.append(DebianArchive(facts.debian_package, facts.system_folder))
    return sources


def sample_source(facts: DatasetFacts) -> Source:
    """Return the sample that ships with the package."""
    return GzipFiles(Path(__file__).parent / "samples" / facts.name)


def read_verified(
    source: Source, file: str, facts: DatasetFacts, sha256: dict[str, str]
) -> tuple[bytes, NDArray[np.uint8]]:
    """Return the decompressed bytes of a file and the array decoded from the very bytes that were hashed.

    Raises:
        SourceError: If the source does not have the file, or its SHA-256 is not that in `sha256`.
    """
    if file not in sha256:
        raise MissingError("its SHA-256 is unknown")
    content = source.read(file)
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256[file]:
        raise SourceError(f"SHA-256 is {digest[:16]}…, expected {sha256[file][:16]}…")
    try:
        if file in (TRAIN_IMAGES, TEST_IMAGES):
            return content, idx.decode_images(content, facts.image_size)
        return content, idx.decode_labels(content, len(facts.classes))
    except idx.IdxError as error:
        raise SourceError(f"not a valid IDX file: {error}") from error


class _Search:
    """The valid files found so far, and why each source did not have the others."""

    def __init__(self, facts: DatasetFacts, sha256: dict[str, str]) -> None:
        self.facts = facts
        self.sha256 = sha256
        self.found: dict[str, tuple[Source, NDArray[np.uint8]]] = {}
        # (source, reason) → files; of an unreachable source, only the first that it was asked for
        self.failures: dict[tuple[str, str], list[str]] = {}

    @property
    def missing(self) -> list[str]:
        return [file for file in FILES if file not in self.found]

    def ask(self, sources: Iterable[Source], store_in: Path | None = None) -> None:
        """Ask each source for the files that are still missing, and store them if a folder is given."""
        for source in sources:
            for file in self.missing:
                try:
                    content, array = read_verified(source, file, self.facts, self.sha256)
                except UnreachableError as error:
                    announce(f"{source.where(file)}: {error}; {source.name} is skipped")
                    self.failures[source.name, str(error)] = [file]
                    break
                except SourceError as error:
                    self._add_failure(source, file, error)
                    continue
                if store_in is not None:
                    _store(store_in / file, content)
                self.found[file] = (source, array)

    def _add_failure(self, source: Source, file: str, error: SourceError) -> None:
        files = self.failures.setdefault((source.name, str(error)), [])
        if file not in files:  # the data folder is asked again when the lock is acquired
            files.append(file)
            if not isinstance(error, MissingError):
                announce(f"{source.where(file)} is not used: {error}")

    def report(self) -> str:
        """Return one line for each source and reason."""
        lines = []
        for (source, why), files in self.failures.items():
            names = "all four files" if len(files) == len(FILES) else ", ".join(files)
            lines.append(f"  - {source}: {why} ({names})")
        return "\n".join(lines)

    def dataset(self, is_sample: bool = False) -> RawDataset:
        train_images, train_labels, test_images, test_labels = (self.found[file][1] for file in FILES)
        for first, images, labels in ((0, train_images, train_labels), (2, test_images, test_labels)):
            if len(images) != len(labels):
                files = " and ".join(self.found[file][0].where(file) for file in FILES[first : first + 2])
                raise DataError(f"{files} have {len(images):,} images but {len(labels):,} labels; replace them")
        if train_images.shape[1:] != test_images.shape[1:]:
            files = " and ".join(self.found[file][0].where(file) for file in (FILES[0], FILES[2]))
            sizes = ("×".join(map(str, images.shape[1:])) for images in (train_images, test_images))
            raise DataError("{} have images of {} and of {} pixels; replace them".format(files, *sizes))
        names = dict.fromkeys(source.name for source, _ in self.found.values())
        origin = "the sample that ships with this package" if is_sample else ", ".join(names)
        origins = {file: self.found[file][0].where(file) for file in FILES}
        return RawDataset(train_images, train_labels, test_images, test_labels, origin, is_sample, origins)


def _store(path: Path, content: bytes) -> None:
    damaged = path.exists()
    with atomic_write(path) as part:
        part.write_bytes(content)
    announce(f"{path} was damaged and has been replaced" if damaged else f"stored {path}")


def _not_available(search: _Search, folder: Path) -> str:
    facts = search.facts
    files = "\n".join(f"  {file:<23}  (SHA-256 {search.sha256.get(file, 'unknown')})" for file in FILES)
    sample = (
        ", or use the small sample that ships\nwith this package: `--data.allow_sample true`"
        if facts.sample_sha256
        else ""
    )
    return (
        f"{facts.title} is not in {folder} and cannot be downloaded.\n"
        f"What was tried:\n{search.report()}\n"
        f"Put these four files into {folder}, uncompressed or gzipped (.gz):\n{files}\n"
        f"or, if you have {facts.folder}/raw/ with them elsewhere, pass the folder that contains it as\n"
        "`--data.data_dir` or the environment variable LIGHTNING_CNN_DATA_DIR, or name a web folder with them as\n"
        f"`--data.mirrors` or LIGHTNING_CNN_MIRRORS{sample}."
    )
