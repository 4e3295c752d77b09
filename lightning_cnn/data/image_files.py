"""Image files of the user's own: which are meant, and what is on them, whatever bytes they hold."""

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

from lightning_cnn.data.files import reason

#: What is read, by Pillow's names; its readers of other formats are not let near files that nobody has looked at.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
#: How the files of these formats end; what else is in a folder is passed over.
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
#: More is refused before it is decoded: 50 megapixels take up to 0.6 GB of memory.
MAX_PIXELS = 50_000_000
MAX_BYTES = 256 * 2**20

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


def find(words: Iterable[str], fail: Callable[[str, ImageFileError], object]) -> Iterator[Path]:
    """Yield the files that words mean, in the order of the words.

    Args:
        words: Each a file; a folder, whose images are meant, and those of all folders in it, sorted, but no hidden ones
            and none in folders that are linked; or a pattern such as ``digits/**/*.png``. What exists is no pattern.
        fail: Is told the name of what cannot be found, and why.
    """
    for word in words:
        if os.path.isdir(word):  # noqa: PTH112  # pathlib's raises an error where a name is too long
            yield from _in_folder(word, fail)
        elif glob.has_magic(word) and not os.path.lexists(word):
            yield from _matching(word, fail)
        else:
            yield Path(word)


def _in_folder(root: str, fail: Callable[[str, ImageFileError], object]) -> Iterator[Path]:
    found = False

    def refused(error: OSError) -> None:
        fail(str(error.filename), ImageFileError(f"cannot be read ({reason(error)}); allow it, or leave it out"))

    for folder, folders, files in os.walk(root, onerror=refused):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                found = True
                yield Path(folder, name)
    if not found:
        fail(root, ImageFileError(f"no images in this folder; those that end in {', '.join(SUFFIXES)} are read"))


def _matching(pattern: str, fail: Callable[[str, ImageFileError], object]) -> Iterator[Path]:
    paths = [Path(name) for name in sorted(glob.glob(pattern, recursive=True)) if not os.path.isdir(name)]  # noqa: PTH112, PTH207
    if not paths:
        fail(pattern, ImageFileError("no file matches this pattern; quote it, and use ** for folders in folders"))
    yield from paths


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
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError
                image.load()
                return _upright(_plain(image), image)
        except UnidentifiedImageError as error:
            raise ImageFileError("not an image; give PNG, JPEG, BMP, GIF or WebP") from error
        except Image.DecompressionBombError as error:
            raise ImageFileError(f"more than {MAX_PIXELS:,} pixels; make it smaller") from error
        except Exception as error:  # Pillow's readers raise what struct, zlib and their own slips happen to raise
            raise ImageFileError("damaged or cut off; save or copy it again") from error


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
