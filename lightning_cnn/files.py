"""Atomic writes, checksums, and the configs that ship with this package."""

import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from lightning_cnn.errors import UserError


def local_path(text: str, what: str) -> Path:
    """Return the file or folder that a user has named; a leading `~` is a home folder.

    Args:
        text: The path as it was given.
        what: What messages call it, for example `--config`.

    Raises:
        UserError: If it is empty, the address of something elsewhere, or in a home folder that does not exist.

    Example:
        >>> local_path("logs", "--output").as_posix()
        'logs'
    """
    if not text:
        raise UserError(f"{what} '' is empty; name a file or folder, or . for the current one")
    if "://" in text:
        raise UserError(f"{what} {text} is an address; name a file or folder on this machine")
    path = Path(os.path.expanduser(text))  # noqa: PTH111  # `Path.expanduser` raises RuntimeError
    if str(path).startswith("~"):
        raise UserError(f"{what} {text}: there is no home folder {path.parts[0]}; give the whole path")
    return path


def cache_dir() -> Path | None:
    """Return the folder of what can be made again at any time; None if the user has no home folder.

    It is $LIGHTNING_CNN_CACHE_DIR, or else `lightning_cnn` in $XDG_CACHE_HOME or `~/.cache`.
    """
    if given := os.environ.get("LIGHTNING_CNN_CACHE_DIR"):
        return local_path(given, "LIGHTNING_CNN_CACHE_DIR").absolute()
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not home.is_absolute():  # which is to be ignored, by the XDG specification
        home = Path(os.path.expanduser("~/.cache"))  # noqa: PTH111  # `Path.expanduser` raises RuntimeError
    return home / "lightning_cnn" if home.is_absolute() else None


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary file in the same folder; when the block ends it is renamed to `path`, on an error removed.

    A symbolic link is followed. The content is flushed to the disk before the rename, so that after a crash of the
    process or the machine the file is complete or absent.

    Raises:
        OSError: If the disk is full, or there is no permission; it names `path`.
    """
    path = Path(os.path.realpath(path))  # `resolve` raises no OSError for a loop of links
    temporary = None
    stack = ExitStack()
    try:
        name = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)  # less what the umask forbids
        stack.callback(os.close, handle)
        temporary = name
        with suppress(OSError):  # some filesystems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)  # for `remove_partial_files`; the system releases it
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # its new name
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno is not None and (error.filename is None or str(error.filename).endswith(".part")):
            error.filename = str(path)  # not the temporary name
        raise
    finally:
        stack.close()
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def remove_partial_files(folder: Path) -> None:
    """Remove what `atomic_write` of killed processes has left below a folder, but not what is still being written."""
    for partial in folder.rglob(".*.part"):
        with suppress(OSError), partial.open("rb") as file:  # removed meanwhile, or locked
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            partial.unlink()


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy where the filesystem has no links, atomically.

    Both files must only be replaced, never modified in place.
    """
    with atomic_write(target) as temporary:
        temporary.unlink()
        try:
            temporary.hardlink_to(source)
        except OSError:  # some filesystems have no links; the copy raises any other error again
            shutil.copyfile(source, temporary)


def read_limited(path: Path, limit: int) -> bytes:
    """Return the content of a file of at most `limit` bytes; no pipe or device is opened, which may block.

    Raises:
        UserError: If it is not a file, or larger; the message names it.
        OSError: If it cannot be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} is not a file; delete it")
    if status.st_size <= limit:
        with path.open("rb") as file:
            content = file.read(limit + 1)  # it may have grown
        if len(content) <= limit:
            return content
    raise UserError(f"{path} has {status.st_size:,} bytes, more than {limit:,}; repair or delete it")


def limited_lines(file: TextIO, limit: int = 2**17) -> Iterator[str]:
    """Yield the lines of a file, and never more of it than `limit` characters at once.

    Raises:
        ValueError: If a line is longer.
    """
    while line := file.readline(limit):
        if len(line) == limit:
            raise ValueError(f"a line has more than {limit:,} characters")
        yield line


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shipped_config(name: str) -> Path:
    """Return a config of this project, for example `mnist/cnn.yaml`."""
    package = Path(__file__).parent
    folder = package if (package / "configs").is_dir() else package.parent  # installed as a wheel, or a checkout
    return folder / "configs" / name


def shipped_configs() -> dict[str, Path]:
    """Return the configs of this project that `fit` can be given alone, by their names, for example `mnist/cnn`."""
    folder = shipped_config("")
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}
    return {name: path for name, path in found.items() if name != "default" and not name.startswith("sweeps/")}
