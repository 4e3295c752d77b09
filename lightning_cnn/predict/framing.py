"""From an image of any size to one like those of a dataset: grey, light foreground on black, square, placed alike."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_cnn.data.facts import Framing
from lightning_cnn.data.mnist import IMAGE_SIZE
from lightning_cnn.data.pillow_images import ImageFileError, reduced
from lightning_cnn.data.resize import Resize
from lightning_cnn.errors import UserError
from lightning_cnn.predict.background import SIDE, corner_level

#: What is darker, as a share of the range of values, is background of an image that may be framed: noise, JPEG.
_FAINT = 0.05
#: By how much the side of the foreground may differ from that of a training image: all of MNIST's are at most one
#: pixel smaller, and of Fashion-MNIST's three.
_SIDE_TOLERANCE = 3
#: How far from the middle the centre of mass may be; in MNIST it is at most half a pixel, for it was rounded.
_CENTRE_TOLERANCE = 0.6
#: Where the foreground is smaller, in pixels of the reduced picture, it is looked at again in the picture itself,
#: unless it would then have to be enlarged more than twice.
_MIN_SIDE = 72
#: The blank margin around a foreground that is looked at again, in pixels.
_MARGIN = 2
#: The proportion of sides above which only a part of an image is looked at.
_LONG = 8
_ORANGE = (230, 159, 0)


class Framed(NamedTuple):
    """An image, as the network sees it.

    Attributes:
        pixels: The input of the network, 0 to 255, `(H, W)`; with the channels of the network, `(C, H, W)`.
        unclear: Why the foreground may not be what was meant; empty if it is clear.
        foreground: What was taken for foreground, and the box that was cropped to, RGB, `(h, w, 3)`; None if nothing
            was cropped.
    """

    pixels: NDArray[np.uint8]
    unclear: str = ""
    foreground: NDArray[np.uint8] | None = None


def frame(
    image: Image.Image,
    framing: Framing,
    invert: bool | None = None,
    crop: bool | None = None,
    size: int = IMAGE_SIZE[0],
) -> Framed:
    """Return the input of the network for an image, light on black.

    Args:
        image: Has mode RGB, L or F, with values from 0 to 255.
        framing: How the training images were made from larger ones.
        invert: Whether the foreground is dark on light; None detects it.
        crop: Whether to crop to the foreground and frame that, or to use the whole image; None crops all images but
            those of the size of the training images with a foreground of the size and at the place of theirs.
        size: Height and width of the training images, at least `framing.side`.

    Raises:
        ImageFileError: If there is nothing in the image.
    """
    if all(low == high for low, high in _extrema(image)):
        raise ImageFileError("blank: all its pixels are alike; give an image with something in it")
    if crop is False or (crop is None and image.size == (size, size)):
        grey = image.convert("L") if image.mode == "RGB" else image
        if crop is False or _is_framed(grey, framing, invert):
            return _whole(grey, invert, size)
    return _foreground(image, framing, invert, size)


def _extrema(image: Image.Image) -> list[tuple[float, float]]:
    return [band.getextrema() for band in image.split()]  # type: ignore[misc]  # as Pillow knows of several bands


def _is_framed(grey: Image.Image, framing: Framing, invert: bool | None) -> bool:
    """Whether the foreground of an image of their size has the size and the place of a training image's."""
    pixels = np.asarray(grey, np.float32)
    pixels = pixels.max() - pixels if _is_dark(pixels, invert) else pixels - pixels.min()
    top, left, bottom, right = _box(pixels > _FAINT * pixels.max())
    if abs(max(bottom - top, right - left) - framing.side) > _SIDE_TOLERANCE:
        return False
    if not framing.by_mass:
        return True  # a foreground as large as that is nowhere else
    centres = [np.average(np.arange(len(pixels)), weights=pixels.sum(axis=axis)) for axis in (0, 1)]
    return all(abs(centre - len(pixels) / 2) <= _CENTRE_TOLERANCE for centre in centres)


def _is_dark(pixels: NDArray[np.float32], invert: bool | None) -> bool:
    """Whether the corners of an image are nearer to its lightest pixel than to its darkest one, unless it is given.

    This is false for all 70,000 images of MNIST and of Fashion-MNIST, and true for each of their negatives.
    """
    return 2 * corner_level(pixels) > float(pixels.min()) + float(pixels.max()) if invert is None else invert


def _whole(grey: Image.Image, invert: bool | None, size: int) -> Framed:
    """Return the whole image, fitted into a square of this size and centred on its own background."""
    pixels = np.asarray(grey, np.float32)
    fitted = _fitted(pixels, size)
    top, left = ((size - length) // 2 for length in fitted.shape)
    canvas = _pasted(fitted, top, left, np.full((size, size), corner_level(pixels), np.float32))
    result = _bytes(255 - canvas if _is_dark(pixels, invert) else canvas)
    return Framed(result)


def _foreground(image: Image.Image, framing: Framing, dark: bool | None, size: int) -> Framed:
    """Return the foreground, cropped and placed."""
    from lightning_cnn.predict.foreground import find_ink  # scipy.ndimage takes a fifth of a second
    from lightning_cnn.predict.objects import find_object

    if image.mode == "F":  # 16 bits, of which only a few may be used
        pixels = np.asarray(image, np.float32)
        image = Image.fromarray(pixels * (255 / max(float(pixels.max()), 1e-6)))
    find = find_ink if framing.by_mass else find_object
    found = None
    if max(image.size) > _LONG * min(image.size):
        part = _part_with_most(image)
        found = find(_reduced(part, SIDE), dark)
        image = image if found is None else part
    found = found or find(_reduced(image, SIDE), dark)
    if found is None:
        raise ImageFileError("blank: nothing in it stands out from the noise; give an image with something in it")
    values, box = found.values, _box(found.values > 0)
    cropped = values[box[0] : box[2], box[1] : box[3]]
    own_side = max(cropped.shape) * max(image.size) / SIDE  # in pixels of the image
    if own_side >= framing.side / 2 and (max(cropped.shape) < _MIN_SIDE or max(image.size) < SIDE):
        sharp = found.refined(image, _widened(box, values.shape))
        top, left, bottom, right = _box(sharp > 0)
        cropped = sharp[top:bottom, left:right]
    if framing.by_mass:
        from lightning_cnn.predict.strokes import thinned

        cropped = thinned(cropped, framing.side)
    return Framed(_place(cropped, framing, size), found.unclear, _shown(values, box))


def _shown(values: NDArray[np.float32], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Return the foreground in white on black, with the box around it in orange."""
    top, left, bottom, right = box
    shown = np.repeat(_bytes(values * (255 / values.max()))[..., None], 3, axis=2)
    for edge in np.s_[[top, bottom - 1], left:right], np.s_[top:bottom, [left, right - 1]]:
        shown[edge] = _ORANGE
    return shown


def _part_with_most(image: Image.Image) -> Image.Image:
    """Return the part of a very long image that differs most from the rest."""
    small = np.asarray(reduced(image.convert("F"), 256))
    axis = int(np.argmax(image.size))
    differs = np.abs(small - np.median(small)).max(axis=axis)
    at = (int(np.argmax(differs)) + 0.5) * image.size[axis] / len(differs)
    half = _LONG * min(image.size) / 2 + image.size[axis] / len(differs)
    box = [0, 0, *image.size]
    box[axis], box[axis + 2] = max(0, round(at - half)), min(image.size[axis], round(at + half))
    return image.crop((box[0], box[1], box[2], box[3]))


def _reduced(image: Image.Image, side: int) -> Image.Image:
    """Return the image with its longer side scaled to `side`."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC, reducing_gap=2)


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return top, left, bottom and right of what is true."""
    (top, bottom), (left, right) = (np.flatnonzero(mask.any(axis=axis))[[0, -1]] + (0, 1) for axis in (1, 0))
    return int(top), int(left), int(bottom), int(right)


def _widened(box: tuple[int, int, int, int], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    top, left, bottom, right = box
    return (
        max(0, top - _MARGIN),
        max(0, left - _MARGIN),
        min(shape[0], bottom + _MARGIN),
        min(shape[1], right + _MARGIN),
    )


def _place(foreground: NDArray[np.float32], framing: Framing, size: int) -> NDArray[np.uint8]:
    """Scale the foreground to the size of the training images and to the whole range of grey, and place it."""
    fitted = np.maximum(_fitted(foreground, framing.side), 0)
    fitted *= 255 / fitted.max()
    top, left = (_offset(fitted.sum(axis=axis), framing.by_mass, size) for axis in (1, 0))
    return _bytes(_pasted(fitted, top, left, np.zeros((size, size), np.float32)))


def _offset(mass: NDArray[np.float32], by_mass: bool, size: int) -> int:
    """Return the first row, or column, of a foreground with this mass in its rows, so that it is centred."""
    free = size - len(mass)
    if not by_mass:
        return (free + 1) // 2  # as in Fashion-MNIST's training images
    centre = np.average(np.arange(len(mass)), weights=mass)
    exact = round(size / 2 - float(centre), 3)  # a symmetric foreground is exactly between two pixels
    return int(np.clip(round(exact), 0, free))  # the middle of MNIST's images is pixel 14


def _fitted(pixels: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return the pixels with their longer side scaled to `side`, and the other one in proportion."""
    if max(pixels.shape) == side:
        return pixels.copy()
    height, width = (max(1, round(length * side / max(pixels.shape))) for length in pixels.shape)
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def _pasted(pixels: NDArray[np.float32], top: int, left: int, canvas: NDArray[np.float32]) -> NDArray[np.float32]:
    canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return canvas


def _bytes(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round to bytes; scaling may leave their range."""
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def read_framing(recorded: dict[str, object] | None, shape: tuple[int, int, int], path: Path) -> Framing | Resize:
    """Return the framing that a file describes; if it describes none, as for a folder.

    Args:
        recorded: Arguments of a `Framing` or a `Resize`; None if the file has none.
        shape: Channels, height and width of the images of the model.
        path: The file, for messages.

    Raises:
        UserError: If it is unknown, or does not make such images.
    """
    try:
        if recorded is None:
            return Framing() if shape == (1, *IMAGE_SIZE) else Resize(shape[1:], "crop", shape[0])
        found = Resize(**recorded) if "mode" in recorded else Framing(**recorded)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise UserError(f"{path} has an unknown framing {recorded!r}; use another checkpoint") from error
    channels, height, width = shape
    if isinstance(found, Resize):
        fits = (found.channels, *found.size) == shape
    else:
        fits = channels == 1 and found.side <= height == width
    if not fits:
        raise UserError(f"{path} has the framing {recorded!r}, but its model is for {shape}; use another")
    return found
