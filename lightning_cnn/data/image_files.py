"""Image files of the user: which files an argument stands for, and how any file is decoded safely.

Used by `predict` and `decoding`. It must be safe for arbitrary bytes: limits on memory and time, and one error for all
failures.
"""

# ruff: noqa: PTH112, PTH114, PTH116, PTH118, PTH123, PTH208  # pathlib raises where a path is too long or not accessible

import fnmatch
import glob
import io
import os
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from lightning_cnn.errors import reason

#: The formats that are read, by Pillow's names; its other decoders are not exposed to untrusted files.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
#: The file name endings of these formats; other files in a folder are skipped.
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
#: Larger images are rejected before decoding: 50 megapixels take up to 0.6 GB of memory.
MAX_PIXELS = 50_000_000
#: Maximum width and height, the limit of JPEG and GIF: resizing a line of millions of pixels would take gigabytes.
MAX_SIDE = 65_535
MAX_BYTES = 256 * 2**20
#: Maximum of passes times pixels of a progressive JPEG, a few seconds. Cameras write a dozen passes; a small malicious
#: file could take days.
_MAX_WORK = 200 * MAX_PIXELS
_START_OF_PASS = b"\xff\xda"


class ImageFileError(Exception):
    """A file cannot be predicted. The message follows the file's name and gives the reason and a way out."""


#: Called with the name of what cannot be found or read, and the reason.
OnError = Callable[[str, ImageFileError], object]


def find(names: Iterable[str], on_error: OnError) -> Iterator[Path]:
    """Yield the image files that names stand for, in the order of the names.

    Args:
        names: Each one is a file; a folder, which stands for its images, sorted, including those of its subfolders; or
            a pattern such as ``digits/**/*.png``. Folders and ``**`` skip hidden files and folders and do not follow
            links to folders. An existing name is not a pattern.
        on_error: Called for a name that stands for nothing, and for a folder that cannot be read.
    """
    for name in names:
        if os.path.isdir(name):
            images: Iterator[str] = (
                path for path in _expand(name, ("**",), on_error) if path.lower().endswith(SUFFIXES)
            )
            error = f"no images in this folder; files that end in {', '.join(SUFFIXES)} are read"
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


def read(path: Path, fill: str | None = None) -> Image.Image:
    """Return the image in a file: upright, the first frame of an animation, on an opaque background.

    Args:
        path: The file.
        fill: The colour of transparent pixels; None for white if the visible ones are dark, otherwise black.

    Returns:
        An image of mode RGB, L or (16-bit greyscale) F, with values from 0 to 255.

    Raises:
        ImageFileError: If the file is missing, cannot be read, is not an image, is damaged or is too large.
    """
    return decode(read_bytes(path), fill)


def read_bytes(path: Path | str) -> bytes:
    """Return the content of a file that may be an image, for `decode`.

    Raises:
        ImageFileError: If the file is missing, empty, too large, or cannot be read.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe or a device may block
            raise ImageFileError("not a regular file; pass files, folders or patterns")
        if status.st_size == 0:
            raise ImageFileError("empty; save or copy it again")
        if status.st_size > MAX_BYTES:
            raise ImageFileError(f"larger than {MAX_BYTES >> 20} MiB; save it in a smaller size")
        with open(path, "rb") as file:
            return file.read(status.st_size)  # which bounds it, even if the file grows
    except FileNotFoundError as error:
        raise ImageFileError("does not exist; pass files, folders or patterns") from error
    except OSError as error:
        raise ImageFileError(f"cannot be read ({reason(error)}); change its permissions or leave it out") from error
    except MemoryError as error:
        raise ImageFileError("too large for the memory; save it in a smaller size") from error


def decode(content: bytes, fill: str | None = None) -> Image.Image:
    """Return the image that a file with this content has, as `read` does.

    Raises:
        ImageFileError: If it is not an image, is damaged or is too large.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of oddities that do not prevent decoding
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                _check_limits(image, content)
                image.load()
                _make_upright(image)
                return _opaque(image, fill)
        except ImageFileError:
            raise
        except UnidentifiedImageError as error:
            raise ImageFileError("not an image; PNG, JPEG, BMP, GIF and WebP are read") from error
        except Image.DecompressionBombError as error:
            raise ImageFileError(f"more than {MAX_PIXELS:,} pixels; save it in a smaller size") from error
        except MemoryError as error:
            raise ImageFileError("too large for the memory; save it in a smaller size") from error
        except Exception as error:  # Pillow's decoders raise whatever struct, zlib and their own bugs raise
            raise ImageFileError("damaged or truncated; save or copy it again") from error


def _check_limits(image: Image.Image, content: bytes) -> None:
    """Reject an image, before it is decoded, that would take too much memory or time."""
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError
    if max(image.size) > MAX_SIDE:
        raise ImageFileError(f"more than {MAX_SIDE:,} pixels wide or high; split it")
    if image.format in ("JPEG", "MPO"):
        passes = content.count(_START_OF_PASS)
        if passes * image.width * image.height > _MAX_WORK:
            raise ImageFileError(f"has {passes:,} passes over its pixels, too slow to decode; save it again")


def _make_upright(image: Image.Image) -> None:
    """Apply the orientation in the EXIF data, unless that is damaged."""
    try:
        ImageOps.exif_transpose(image, in_place=True)  # a copy would take as much memory again
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # Pillow's EXIF reader raises whatever struct and others raise
        return


def _opaque(image: Image.Image, fill: str | None) -> Image.Image:
    """Return the image in RGB, or in greyscale if it is so, on an opaque background."""
    if image.mode.startswith("I"):  # 16 bits
        return Image.fromarray(np.asarray(image, np.float32) / 257)
    if not image.has_transparency_data:
        return image.convert("L" if image.mode in ("1", "L") else "RGB")
    image = image.convert("RGBA")
    if fill is None:
        small = reduced(image, 256)  # averaged in proportion to opacity
        brightness, opacity = (np.asarray(band, np.float64) for band in (small.convert("L"), small.getchannel("A")))
        fill = "white" if (brightness * opacity).sum() < 128 * opacity.sum() else "black"
    opaque = Image.new("RGB", image.size, fill)
    opaque.paste(image, mask=image)
    return opaque


def reduced(image: Image.Image, side: int) -> Image.Image:
    """Return the image averaged over whole blocks of pixels, so that neither side is longer than `side`."""
    factor = -(-max(image.size) // side)
    return image.reduce(factor) if factor > 1 else image


def thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """Return a small version of an image from `read`: RGB, `(h, w, 3)`, neither side longer than 200 pixels."""
    small = reduced(image, 200)
    return np.asarray((small.convert("L") if small.mode == "F" else small).convert("RGB"))
