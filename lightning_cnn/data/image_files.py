"""Image files of the user's own: which are meant, and what is on them, whatever bytes they hold."""

# ruff: noqa: PTH112, PTH114, PTH118, PTH208  # where a path is too long or closed, pathlib's raise errors

import fnmatch
import glob
import os
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from lightning_cnn.errors import reason

#: What is read, by Pillow's names; its readers of other formats are not let near files that nobody has looked at.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
#: How the files of these formats end; what else is in a folder is passed over.
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
#: More is refused before it is decoded: 50 megapixels take up to 0.6 GB of memory.
MAX_PIXELS = 50_000_000
#: No side is longer: what JPEG and GIF can hold; to scale a line of millions of pixels would take gigabytes.
MAX_SIDE = 65_535
MAX_BYTES = 256 * 2**20
#: How often a JPEG may go over its pixels, times these: some seconds. Cameras make a dozen passes; a small file could
#: ask for days.
_MAX_WORK = 200 * MAX_PIXELS
_START_OF_PASS = b"\xff\xda"

#: What to do with a picture for each of the orientations that EXIF knows.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageFileError(Exception):
    """Nothing can be predicted from a file; the message says why, in words that go after its name, and a way out."""


#: Is told the name of what cannot be found or read, and why.
Fail = Callable[[str, ImageFileError], object]


def find(words: Iterable[str], fail: Fail) -> Iterator[Path]:
    """Yield the files that words mean, in the order of the words.

    Args:
        words: Each a file; a folder, whose images are meant, and those of all folders in it, sorted; or a pattern such
            as ``digits/**/*.png``. Neither a folder nor ``**`` means what is hidden, or lies in folders that are
            linked. What exists is no pattern.
        fail: Is told what cannot be found, and which folder cannot be read.
    """
    for word in words:
        if os.path.isdir(word):
            yield from _in_folder(word, fail)
        elif glob.has_magic(word) and not os.path.lexists(word):
            yield from _matching(word, fail)
        else:
            yield Path(word)


def _in_folder(root: str, fail: Fail) -> Iterator[Path]:
    found = False
    for folder, names in _tree(root, fail):
        for name in names:
            path = os.path.join(folder, name)
            if name.lower().endswith(SUFFIXES) and not name.startswith(".") and not os.path.isdir(path):
                found = True
                yield Path(path)
    if not found:
        fail(root, ImageFileError(f"no images in this folder; those that end in {', '.join(SUFFIXES)} are read"))


def _matching(pattern: str, fail: Fail) -> Iterator[Path]:
    parts = Path(pattern).parts
    paths = [Path(path) for path in sorted(set(_expand("", parts, fail))) if not os.path.isdir(path)]
    if not paths:
        fail(pattern, ImageFileError("no file matches this pattern; quote it, and use ** for folders in folders"))
    yield from paths


def _expand(place: str, parts: tuple[str, ...], fail: Fail) -> Iterator[str]:
    """Yield what matches the parts of a pattern below a place; unlike `glob`, tell of folders that cannot be read."""
    if not parts:
        yield place
    elif not glob.has_magic(parts[0]):
        path = os.path.join(place, parts[0])
        if os.path.lexists(path):
            yield from _expand(path, parts[1:], fail)
    elif not os.path.isdir(place or os.curdir):
        return
    elif parts[0] == "**":
        for folder, _ in _tree(place, fail):
            yield from _expand(folder, parts[1:] or ("*",), fail)
    else:
        for name in _listing(place, fail) or []:
            if fnmatch.fnmatchcase(name, parts[0]) and name.startswith(".") <= parts[0].startswith("."):
                yield from _expand(os.path.join(place, name), parts[1:], fail)


def _tree(root: str, fail: Fail) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder that can be read, and the names in it, sorted: the root, and what is not hidden or linked."""
    folders = [root]
    while folders:
        folder = folders.pop()
        names = _listing(folder, fail)
        if names is None:
            continue
        yield folder, names
        inside = (os.path.join(folder, name) for name in reversed(names) if not name.startswith("."))
        folders += [path for path in inside if os.path.isdir(path) and not os.path.islink(path)]


def _listing(folder: str, fail: Fail) -> list[str] | None:
    """Return the names in a folder, sorted; None, and tell why, if it cannot be read."""
    try:
        return sorted(os.listdir(folder or os.curdir))
    except OSError as error:
        fail(folder, ImageFileError(f"cannot be read ({reason(error)}); allow it, or leave it out"))
        return None


def read(path: Path) -> Image.Image:
    """Return the picture in a file: upright, the first of an animation, what is transparent filled in.

    Whatever is transparent becomes white if what is visible is dark, or else black.

    Returns:
        An image of mode RGB, L, or, with 16 bits of grey, F; all with values from 0 to 255.

    Raises:
        ImageFileError: If the file is missing, cannot be read, holds no image, or one that is damaged or enormous.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # to open a pipe or a device may take for ever
            raise ImageFileError("not a file; give files, folders or patterns")
        if status.st_size == 0:
            raise ImageFileError("empty; save or copy it again")
        if status.st_size > MAX_BYTES:
            raise ImageFileError(f"larger than {MAX_BYTES >> 20} MiB; save it smaller")
        with path.open("rb") as file:
            return _decode(file)
    except FileNotFoundError as error:
        raise ImageFileError("does not exist; give files, folders or patterns") from error
    except OSError as error:
        raise ImageFileError(f"cannot be read ({reason(error)}); allow it, or leave it out") from error


def _decode(file: BinaryIO) -> Image.Image:
    """Decode what an open file holds, quietly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's are on oddities of a file that do not keep it from being seen
        try:
            with Image.open(file, formats=FORMATS) as image:
                _require_bounds(image, file)
                image.load()
                return _upright(_plain(image), image)
        except ImageFileError:
            raise
        except UnidentifiedImageError as error:
            raise ImageFileError("not an image; give PNG, JPEG, BMP, GIF or WebP") from error
        except Image.DecompressionBombError as error:
            raise ImageFileError(f"more than {MAX_PIXELS:,} pixels; make it smaller") from error
        except MemoryError as error:
            raise ImageFileError("takes more memory than there is; make it smaller") from error
        except Exception as error:  # Pillow's readers raise what struct, zlib and their own slips happen to raise
            raise ImageFileError("damaged or cut off; save or copy it again") from error


def _require_bounds(image: Image.Image, file: BinaryIO) -> None:
    """Refuse an image, not decoded yet, that would take too much memory or time."""
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError
    if max(image.size) > MAX_SIDE:
        raise ImageFileError(f"more than {MAX_SIDE:,} pixels wide or high; cut it into pieces")
    if image.format in ("JPEG", "MPO"):
        start = file.tell()
        file.seek(0)
        passes = sum(piece.count(_START_OF_PASS) for piece in iter(lambda: file.read(2**20), b""))
        file.seek(start)
        if passes * image.width * image.height > _MAX_WORK:
            raise ImageFileError(f"made to be slow: {passes:,} passes over its pixels; save it again")


def _plain(image: Image.Image) -> Image.Image:
    """Return the image in RGB, or in grey if it is so, with nothing transparent."""
    if image.mode.startswith("I"):  # 16 bits
        return Image.fromarray(np.asarray(image, np.float32) / 257)
    if image.has_transparency_data:
        return _filled_in(image.convert("RGBA"))
    if image.mode == "1":
        return image.convert("L")
    return image.copy() if image.mode in ("L", "RGB") else image.convert("RGB")


def _filled_in(image: Image.Image) -> Image.Image:
    """Put what is visible of an RGBA image on white or black, whichever it differs from."""
    few = reduced(image, 256)  # of these colours, the transparent ones have no part in the visible ones
    brightness, visible = (np.asarray(band, np.float64) for band in (few.convert("L"), few.getchannel("A")))
    is_dark = (brightness * visible).sum() < 128 * visible.sum()
    filled = Image.new("RGB", image.size, "white" if is_dark else "black")
    filled.paste(image, mask=image)
    return filled


def _upright(plain: Image.Image, image: Image.Image) -> Image.Image:
    """Turn the plain copy of an image as the camera that took it held it."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001  # raises as much as the readers do; a picture without its notes is still one
        return plain
    return plain if turn is None else plain.transpose(turn)


def reduced(image: Image.Image, side: int) -> Image.Image:
    """Return the image with whole blocks of pixels made into one, such that no side is longer than `side`."""
    factor = -(-max(image.size) // side)
    return image.reduce(factor) if factor > 1 else image


def thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """Return a small picture of an image that `read` returned: RGB, `(h, w, 3)`, no side longer than 200 pixels."""
    few = reduced(image, 200)
    return np.asarray((few.convert("L") if few.mode == "F" else few).convert("RGB"))
