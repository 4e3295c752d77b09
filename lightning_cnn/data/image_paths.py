"""Which image files an argument stands for: a file, the images of a folder, a pattern, or stdin. Used by `predict`."""

# ruff: noqa: PTH112, PTH114, PTH118, PTH208  # pathlib raises where a path is too long or not accessible

import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from lightning_cnn.data.image_files import DOCUMENTS, STDIN, SUFFIXES, OnError
from lightning_cnn.data.pillow_images import ImageFileError
from lightning_cnn.errors import UserError, reason

#: What a folder stands for.
_SUFFIXES = SUFFIXES + DOCUMENTS
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://|(data|file):", re.IGNORECASE)


def require_local(names: Iterable[str]) -> None:
    """Refuse addresses of images elsewhere.

    Raises:
        UserError: If there is one.
    """
    for name in names:
        if not _ADDRESS.match(name) or os.path.lexists(name):
            continue
        if name[:5].lower() == "file:":
            raise UserError(f"{name} is an address; give the path alone, without file:")
        raise UserError(
            f"{name} is an address; download it first, or pipe it: `curl ADDRESS | lightning-cnn predict CHECKPOINT -`"
        )


def find(names: Iterable[str], on_error: OnError) -> Iterator[Path]:
    """Yield the image files that names stand for, in the order of the names.

    Args:
        names: Each one is a file; `-`, which stands for stdin; a folder, which stands for its images, sorted,
            including those of its subfolders; or a pattern such as ``digits/**/*.png``. Folders and ``**`` skip hidden
            files and folders and do not follow links to folders. An existing name is not a pattern.
        on_error: Called for a name that stands for nothing, and for a folder that cannot be read.
    """
    for name in names:
        if name == "-":
            yield STDIN
            continue
        if os.path.isdir(name):
            images: Iterator[str] = (
                path for path in _expand(name, ("**",), on_error) if path.lower().endswith(_SUFFIXES)
            )
            error = f"no images in this folder; files that end in {', '.join(_SUFFIXES)} are read"
        elif glob.has_magic(name) and not os.path.lexists(name):
            images = iter(sorted(set(_expand("", Path(name).parts, on_error))))  # a set, as **/** repeats files
            error = "no file matches this pattern; quote it, and use ** for subfolders"
        else:
            yield Path(name)
            continue
        found = False
        for path in images:
            if not os.path.isdir(path):
                found = True
                yield Path(path)
        if not found:
            on_error(name, ImageFileError(error))


def _expand(folder: str, parts: tuple[str, ...], on_error: OnError) -> Iterator[str]:
    """Yield the matches of a pattern below a folder. Unlike `glob`, report folders that cannot be read."""
    if not parts:
        yield folder
    elif not glob.has_magic(parts[0]):
        path = os.path.join(folder, parts[0])
        if os.path.lexists(path):
            yield from _expand(path, parts[1:], on_error)
    elif not os.path.isdir(folder or os.curdir):
        return
    elif parts[0] == "**":
        for subfolder in _walk(folder, on_error):
            yield from _expand(subfolder, parts[1:] or ("*",), on_error)
    else:
        for name in _list(folder, on_error) or []:
            if fnmatch.fnmatchcase(name, parts[0]) and name.startswith(".") <= parts[0].startswith("."):
                yield from _expand(os.path.join(folder, name), parts[1:], on_error)


def _walk(root: str, on_error: OnError) -> Iterator[str]:
    """Yield the root and its subfolders, sorted, that can be read; not hidden or linked ones. Any depth is possible."""
    folders = [root]
    while folders:
        folder = folders.pop()
        if (names := _list(folder, on_error)) is not None:
            yield folder
            paths = (os.path.join(folder, name) for name in reversed(names) if not name.startswith("."))
            folders += [path for path in paths if os.path.isdir(path) and not os.path.islink(path)]


def _list(folder: str, on_error: OnError) -> list[str] | None:
    """Return the names in a folder, sorted, or None if it cannot be read."""
    try:
        return sorted(os.listdir(folder or os.curdir))
    except OSError as error:
        on_error(folder, ImageFileError(f"cannot be read ({reason(error)}); change its permissions or leave it out"))
        return None
