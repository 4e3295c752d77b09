"""The folder of decoded images: its lock, its limit, and how entries are removed. `cache` fills it."""

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from lightning_cnn.data.files import announce
from lightning_cnn.errors import DataError, UserError, reason
from lightning_cnn.files import cache_dir

#: The limit of all entries in GB, if LIGHTNING_CNN_CACHE_LIMIT is not set.
_LIMIT = 20.0


def folder() -> Path:
    """Return the folder of the decoded images, which need not exist.

    Raises:
        DataError: If the user has no home folder.
    """
    if (base := cache_dir()) is None:
        raise DataError(
            "there is no home folder to store decoded images in; choose a folder with the environment variable "
            "LIGHTNING_CNN_CACHE_DIR"
        )
    return base / "images"


def clear() -> int:
    """Remove all decoded images, and return how many bytes they took. Processes that use them are not disturbed.

    Raises:
        DataError: If they cannot be removed.
    """
    if not folder().is_dir():
        return 0
    with locked(folder()):
        entries = _entries()
        for path in entries:
            remove(path)
        return sum(entries.values())


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create the folder and hold its lock; what killed processes have left in it is removed.

    There is no limit for the wait: decoding may take hours, and the system releases the lock of a dead process.
    """
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            announce(f"waiting for another process that is decoding images into {folder}")
            lock.acquire()
    except (OSError, NotImplementedError) as error:  # some file systems have no locks
        raise DataError(
            f"{folder}, for decoded images, cannot be written to ({reason(error)}); make it writable, or choose "
            "another folder with the environment variable LIGHTNING_CNN_CACHE_DIR"
        ) from error
    try:
        for part in folder.glob(".*.part"):
            shutil.rmtree(part, ignore_errors=True)
        yield
    finally:
        lock.release()


def part(path: Path) -> Path:
    """Return the name of an entry that is not complete."""
    return path.with_name(f".{path.name}.part")


def remove(path: Path) -> None:
    """Remove an entry at once: others find all of it or nothing."""
    try:
        path.rename(part(path))
        shutil.rmtree(part(path))
    except OSError as error:
        raise DataError(f"{path} cannot be removed ({reason(error)}); change its permissions") from error


def _entries() -> dict[Path, int]:
    """Return the entries and their sizes in bytes; the least recently used is the first."""
    found = []
    for path in folder().glob("[!.]*"):
        with suppress(OSError):  # removed meanwhile, by hand
            found.append((path.stat().st_mtime_ns, path, sum(file.stat().st_size for file in path.iterdir())))
    return {path: size for _, path, size in sorted(found)}


def touch(path: Path) -> None:
    """Note that an entry is used now."""
    with suppress(OSError):  # a folder that is shared may be read-only
        os.utime(path)


def make_room(folder: Path, needed: int) -> None:
    """Remove the entries that were not used for longest, as far as the limit and the disk require it.

    Raises:
        DataError: If there is not enough room without them all.
    """
    entries = _entries()
    used, free, limit = sum(entries.values()), shutil.disk_usage(folder).free, _limit()
    if needed > limit:
        raise DataError(
            f"the decoded images take {needed / 1e6:,.0f} MB, more than the limit of {limit / 1e9:g} GB: choose a "
            "smaller image size, or raise the limit with the environment variable LIGHTNING_CNN_CACHE_LIMIT"
        )
    if needed > free + used:
        raise DataError(
            f"the decoded images take {needed / 1e6:,.0f} MB, and {folder} has room for {(free + used) / 1e6:,.0f} MB: "
            "make room, or choose another folder with the environment variable LIGHTNING_CNN_CACHE_DIR"
        )
    for path, size in entries.items():
        if needed + used <= min(limit, free + used):
            break
        remove(path)
        used, free = used - size, free + size


def _limit() -> float:
    """Return the most bytes that all entries may take."""
    given = os.environ.get("LIGHTNING_CNN_CACHE_LIMIT", str(_LIMIT))
    try:
        limit = float(given)
    except ValueError:
        limit = math.nan
    if not limit > 0:
        raise UserError(f"LIGHTNING_CNN_CACHE_LIMIT must be a number of GB above 0, got {given!r}")
    return limit * 1e9
