"""What becomes of an image that Pillow has decoded: upright, opaque, RGB or greyscale, of a moderate size.

Used by `image_files` for images in files, and by `predict` for those that Python code makes itself.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from lightning_cnn.data import tiff

#: Larger images are rejected before decoding: 50 megapixels take up to 0.6 GB of memory.
MAX_PIXELS = 50_000_000
#: Maximum width and height, the limit of JPEG and GIF: resizing a line of millions of pixels would take gigabytes.
MAX_SIDE = 65_535
#: Messages of errors that several decoders have.
DAMAGED, TOO_LARGE = (
    "damaged or truncated; save or copy it again",
    "too large for the memory; save it in a smaller size",
)
_READ = "PNG, JPEG, GIF, BMP, WebP, TIFF, AVIF, HEIC and PDF are read"


class ImageFileError(Exception):
    """A file cannot be predicted. The message follows the file's name and gives the reason and a way out."""


def prepared(image: Image.Image, fill: str | None = None) -> Image.Image:
    """Return an image of Pillow's as `read` returns those of files; it is not changed.

    Args:
        image: The image, of any mode; of several frames the current one.
        fill: The colour of transparent pixels, as for `read`.

    Raises:
        ImageFileError: If it is too large, empty, or cannot be decoded.
    """
    with as_image_file_errors():
        if 0 in image.size:
            raise ImageFileError("empty; give an image with pixels")
        require_moderate_size(image.size, MAX_PIXELS)
        image = image.copy()
        make_upright(image)
        return opaque(image, fill)


@contextmanager
def as_image_file_errors() -> Iterator[None]:
    """Raise `ImageFileError` for whatever Pillow raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of oddities that do not prevent decoding
        try:
            yield
        except ImageFileError:
            raise
        except UnidentifiedImageError as error:
            raise ImageFileError(f"not an image; {_READ}") from error
        except Image.DecompressionBombError as error:
            raise ImageFileError(f"more than {MAX_PIXELS:,} pixels; save it in a smaller size") from error
        except MemoryError as error:
            raise ImageFileError(TOO_LARGE) from error
        except Exception as error:  # Pillow's decoders raise whatever struct, zlib and their own bugs raise
            raise ImageFileError(DAMAGED) from error


def require_moderate_size(size: tuple[int, int], max_pixels: int) -> None:
    """Reject an image, before it is decoded, that would take too much memory."""
    if size[0] * size[1] > max_pixels:
        raise ImageFileError(f"more than {max_pixels:,} pixels; save it in a smaller size")
    if max(size) > MAX_SIDE:
        raise ImageFileError(f"more than {MAX_SIDE:,} pixels wide or high; split it")


def make_upright(image: Image.Image) -> None:
    """Apply the orientation in the EXIF data, unless that is damaged."""
    try:
        ImageOps.exif_transpose(image, in_place=True)  # a copy would take as much memory again
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # Pillow's EXIF reader raises whatever struct and others raise
        return


def opaque(image: Image.Image, fill: str | None, bits: int = 16, inverted: bool = False) -> Image.Image:
    """Return the image in RGB, or in greyscale if it is so, on an opaque background.

    Args:
        image: The image.
        fill: The colour of transparent pixels, as for `read`.
        bits: Those of grey in mode I;16, which may be fewer than 16.
        inverted: Whether the greatest value is black, in modes of more than 8 bits.
    """
    if image.mode.startswith(("I", "F")):  # more than 8 bits of grey
        levels = tiff.levels(np.asarray(image, np.float32), bits if image.mode.startswith("I;") else 0, inverted)
        if not np.isfinite(levels).all():
            raise ImageFileError("has pixels that are NaN or infinite; save it with 8 or 16 bits")
        return Image.fromarray(levels)
    if not image.has_transparency_data:
        return image.convert("L" if image.mode in ("1", "L") else "RGB")
    image = image.convert("RGBA")
    if fill is None:
        small = reduced(image, 256)  # averaged in proportion to opacity
        brightness, opacity = (np.asarray(band, np.float64) for band in (small.convert("L"), small.getchannel("A")))
        fill = "white" if (brightness * opacity).sum() < 128 * opacity.sum() else "black"
    result = Image.new("RGB", image.size, fill)
    result.paste(image, mask=image)
    return result


def reduced(image: Image.Image, side: int) -> Image.Image:
    """Return the image averaged over whole blocks of pixels, so that neither side is longer than `side`."""
    factor = -(-max(image.size) // side)
    return image.reduce(factor) if factor > 1 else image


def thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """Return a small version of an image from `read`: RGB, `(h, w, 3)`, neither side longer than 200 pixels."""
    small = reduced(image, 200)
    return np.asarray((small.convert("L") if small.mode == "F" else small).convert("RGB"))
