"""What all sources of a dataset share: the base class, bounded reading, errors, and the lock of the data folder.

`sources` asks the sources in turn; `mirrors` and `archive` define those that need the network. Nothing here may import
torch: `lightning-cnn data` runs without it.
"""

import gzip
import io
import sys
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, ClassVar

from filelock import AcquireReturnProxy, BaseFileLock, FileLock, Timeout

from lightning_cnn.environment import is_rank_zero
from lightning_cnn.errors import DataError, reason

#: Largest size of a file in bytes, compressed or not (60,000 images are 47 MB). Anything beyond is not read.
MAX_BYTES = 64 * 2**20
#: Seconds to wait for another process that fetches the same dataset.
LOCK_TIMEOUT = 900.0


class SourceError(Exception):
    """A source has no valid copy of a file; it may have valid copies of other files."""


class MissingError(SourceError):
    """A source does not have the file; this is not worth a warning."""


class UnreachableError(SourceError):
    """A source cannot be reached; trying another of its files would only cost time."""


class Source(ABC):
    """A place that may have the files of a dataset.

    Args:
        location: Folder, web address or package; with the name of a file it makes up `where`.
        name: What messages call the source.
    """

    #: The ending of the files at this source; ".gz" files are decompressed.
    suffix: ClassVar[str] = ".gz"

    def __init__(self, location: str | Path, name: str) -> None:
        self.location = location
        self.name = name

    def where(self, file: str) -> str:
        """Return the path or address of `file` at this source."""
        return f"{self.location}/{file}{self.suffix}"

    def read(self, file: str) -> bytes:
        """Return the decompressed bytes of `file`, at most `MAX_BYTES`, not verified yet.

        Raises:
            SourceError: If they are not available.
        """
        content = self.read_stored(file)
        return gunzip(content) if self.suffix else content

    @abstractmethod
    def read_stored(self, file: str) -> bytes:
        """Return the bytes at `where`, or raise `SourceError`."""


class GzipFiles(Source):
    """Gzipped IDX files in a folder, under their own names or as Kaggle has them."""

    kind: ClassVar[str] = "gz"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, f"{self.kind} files in {folder}")

    def where(self, file: str) -> str:
        """Return the path of `file`; on Kaggle it has a dot before `idx`, or is in a folder of the same name."""
        names = (file, file.replace("-idx", ".idx"), f"{file}/{file}")
        paths = [Path(self.location, f"{name}{self.suffix}") for name in names]
        return str(next(filter(_is_file, paths), paths[0]))

    def has_any(self, files: Iterable[str]) -> bool:
        """Whether one of the files is there, valid or not."""
        return any(_is_file(Path(self.where(file))) for file in files)

    def read_stored(self, file: str) -> bytes:
        """Return the bytes of the file at `where`, or raise `SourceError`."""
        path = Path(self.where(file))
        try:
            if path.exists() and not path.is_file():  # opening a pipe or a device may block
                raise SourceError("not a regular file")
            with path.open("rb") as stored:
                return _read_bounded(stored)
        except (FileNotFoundError, NotADirectoryError):
            raise MissingError("missing") from None
        except OSError as error:
            raise SourceError(reason(error)) from error


class RawFiles(GzipFiles):
    """Uncompressed IDX files in a folder."""

    kind = "raw"
    suffix = ""


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no permission, or too long: `read_stored` says so
        return False


def gunzip(content: bytes) -> bytes:
    """Return the decompressed bytes, at most `MAX_BYTES`, or raise `SourceError`."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return _read_bounded(file)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"not a valid gzip file ({reason(error)})") from error


def announce(message: str) -> None:
    """Print to stderr what happens to the data; of several processes, only that of rank 0 does."""
    if is_rank_zero():
        print(f"lightning-cnn: {message}", file=sys.stderr, flush=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create the folder and hold its lock, so that only one process at a time writes into it.

    Raises:
        DataError: If the folder cannot be written to, before or inside the block, or if another process holds the lock
            for `LOCK_TIMEOUT` seconds.
    """
    lock = folder / ".lock"
    try:
        created = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with _acquire(FileLock(lock), folder):
            folder.mkdir(parents=True, exist_ok=True)  # another process may have removed it, as below
            for part in folder.glob(".*.part"):  # left behind by a process that was killed while writing
                part.unlink(missing_ok=True)
            try:
                yield
            finally:
                if [*folder.iterdir()] == [lock]:  # nothing was stored
                    lock.unlink()
                    with suppress(OSError):  # another process has put something there meanwhile
                        for path in created:
                            path.rmdir()
    except Timeout as error:
        raise DataError(
            f"{folder} is still locked by another process after {LOCK_TIMEOUT:.0f} s: "
            "wait for it, end it, or choose another folder with `--data.data_dir`"
        ) from error
    except (OSError, NotImplementedError) as error:  # some file systems have no locks
        raise DataError(
            f"{folder} cannot be written to ({reason(error)}), but the dataset must be downloaded into it: "
            "make it writable, or choose another folder with `--data.data_dir` or the environment variable "
            "LIGHTNING_CNN_DATA_DIR"
        ) from error


def _acquire(lock: BaseFileLock, folder: Path) -> "AcquireReturnProxy[BaseFileLock]":
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        announce(f"waiting for another process that is downloading into {folder}")
        return lock.acquire(timeout=LOCK_TIMEOUT)


def _read_bounded(file: BinaryIO | gzip.GzipFile) -> bytes:
    content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise SourceError(f"larger than the limit of {MAX_BYTES:,} bytes")
    return content
