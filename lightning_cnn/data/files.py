"""Files that may hold a dataset: read within bounds, replaced in one step, by one process at a time."""

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from filelock import FileLock, Timeout

from lightning_cnn.errors import DataError, reason
from lightning_cnn.files import atomic_write

#: No file is larger, packed or unpacked (60,000 images are 47 MB). What a source sends beyond this is not even read.
MAX_BYTES = 64 * 2**20
#: Seconds to wait for another process that fetches the same dataset.
LOCK_TIMEOUT = 900.0


class SourceError(Exception):
    """A source does not have a sound copy of a file; it may have one of another file."""


class MissingError(SourceError):
    """A source does not have the file at all, which is nothing to worry about."""


class UnreachableError(SourceError):
    """A source cannot be reached; asking it for another file would only cost time."""


class Source(Protocol):
    """One place that may have the files of a dataset."""

    @property
    def name(self) -> str:
        """How messages call the source."""

    def where(self, file: str) -> str:
        """Return the path or address of `file` here."""

    def read(self, file: str) -> bytes:
        """Return the raw (decompressed) bytes of `file`, at most `MAX_BYTES`, not yet verified.

        Raises:
            SourceError: If they cannot be had.
        """


@dataclass(frozen=True)
class RawFiles:
    """Raw IDX files in a folder."""

    folder: Path

    @property
    def name(self) -> str:
        """How messages call the source."""
        return f"raw files in {self.folder}"

    def where(self, file: str) -> str:
        """Return the path of `file`."""
        return str(self.folder / file)

    def read(self, file: str) -> bytes:
        """Return the bytes of `file`, or raise `SourceError`."""
        return read_file(self.folder / file)


@dataclass(frozen=True)
class GzipFiles:
    """Gzipped IDX files in a folder."""

    folder: Path

    @property
    def name(self) -> str:
        """How messages call the source."""
        return f"gz files in {self.folder}"

    def where(self, file: str) -> str:
        """Return the path of the gzipped `file`."""
        return str(self.folder / f"{file}.gz")

    def read(self, file: str) -> bytes:
        """Return the decompressed bytes of `file`, or raise `SourceError`."""
        return gunzip(read_file(self.folder / f"{file}.gz"))


def read_file(path: Path) -> bytes:
    """Return the bytes of a file of at most `MAX_BYTES`, or raise `SourceError`."""
    try:
        if path.exists() and not path.is_file():  # to open a pipe or a device may take for ever
            raise SourceError("not a file")
        with path.open("rb") as file:
            return _read_bounded(file)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingError("missing") from None
    except OSError as error:
        raise SourceError(reason(error)) from error


def gunzip(content: bytes) -> bytes:
    """Return the decompressed bytes, at most `MAX_BYTES`, or raise `SourceError`."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return _read_bounded(file)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"not a sound gzip file ({reason(error)})") from error


def _read_bounded(file: BinaryIO | gzip.GzipFile) -> bytes:
    content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise SourceError(f"larger than {MAX_BYTES:,} bytes, the most that is read")
    return content


def announce(message: str) -> None:
    """Tell the user, on stderr, what happens to the data."""
    print(f"lightning-cnn: {message}", file=sys.stderr, flush=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder, and be the only process that writes into it.

    Raises:
        DataError: If the folder cannot be written to, or another process keeps it for `LOCK_TIMEOUT` seconds.
    """
    with _writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        _acquire(lock, folder)
        try:
            _remove_leftovers(folder)
        except BaseException:
            lock.release()
            raise
    try:
        yield
    finally:
        lock.release()


def replace(path: Path, content: bytes) -> None:
    """Write the file so that it is there as a whole or not at all. The folder must be `locked`.

    Raises:
        DataError: If it cannot be written.
    """
    with _writing_to(path.parent), atomic_write(path) as part:
        part.write_bytes(content)


def _acquire(lock: FileLock, folder: Path) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        announce(f"waiting for another process that fetches into {folder}")
        lock.acquire(timeout=LOCK_TIMEOUT)


def _remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed while writing left behind; with the lock held, nobody writes."""
    for part in folder.glob(".*.part"):
        part.unlink(missing_ok=True)


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    try:
        yield
    except Timeout as error:
        raise DataError(
            f"{folder} is still locked by another process after {LOCK_TIMEOUT:.0f} s: "
            "wait for it, end it, or give another folder with `--data.data_dir`"
        ) from error
    except (OSError, NotImplementedError) as error:
        raise DataError(
            f"{folder} cannot be written to ({reason(error)}), and the dataset has to be fetched and stored there: "
            "make it writable, or give another folder with `--data.data_dir` or the environment variable "
            "LIGHTNING_CNN_DATA_DIR"
        ) from error
