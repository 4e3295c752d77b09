"""From an image of any size to one like those of a dataset: grey, light foreground on black, 28×28, placed alike."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_cnn.data.facts import Framing
from lightning_cnn.data.image_files import ImageFileError, reduced
from lightning_cnn.data.mnist import IMAGE_SIZE as IMAGE_SHAPE

_SIZE = IMAGE_SHAPE[0]
#: The shape of an image that is framed: channels, height, width.
FRAMED_SHAPE = (1, *IMAGE_SHAPE)
#: Longest side, in pixels, of the reduced image in which the foreground is found: fine enough for 28×28, and averaged
#: pixels of a photograph are less noisy.
_REDUCED_SIZE = 256
#: The share of the largest contrast below which all is background: noise, shadows of JPEG.
_MIN_CONTRAST = 0.1
#: The standard deviations of the noise by which the foreground must differ from the background.
_MIN_DEVIATIONS = 6.0
#: Iterations of least squares for the background; more change nothing visible.
_ITERATIONS = 12


def frame(
    image: Image.Image, framing: Framing, invert: bool | None = None, crop: bool | None = None
) -> NDArray[np.uint8]:
    """Return the input of the network for an image, `(28, 28)`, light on black.

    Args:
        image: Has mode RGB, L or F, with values from 0 to 255.
        framing: How the training images were made from larger ones.
        invert: Whether the foreground is dark on light; None detects it.
        crop: Whether to crop to the foreground and frame that, or to use the whole image; None crops all images that
            are not 28×28.

    Raises:
        ImageFileError: If there is nothing in the image.
    """
    grey = image.convert("L") if image.mode == "RGB" else image
    low, high = grey.getextrema()
    if low == high:
        raise ImageFileError("blank: all its pixels are alike; give an image with something in it")
    if invert is None:
        invert = bool(_is_dark_on_light(np.asarray(reduced(grey, _REDUCED_SIZE), np.float32)))
    if crop is None:
        crop = grey.size != IMAGE_SHAPE
    return _place(_foreground(grey, invert), framing) if crop else _whole(grey, invert)


def _is_dark_on_light(pixels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether the corners of images `(…, H, W)` are nearer to the lightest pixel than to the darkest one.

    This is false for all 70,000 images of MNIST and of Fashion-MNIST, and true for each of their negatives.
    """
    return np.asarray(2 * _corner_level(pixels) > pixels.min(axis=(-2, -1)) + pixels.max(axis=(-2, -1)))


def _corner_level(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of the middle two of the four corners' medians; one or two corners may contain foreground."""
    h, w = (max(1, length // 16) for length in pixels.shape[-2:])
    corners = [pixels[..., y, x] for y in (slice(h), slice(-h, None)) for x in (slice(w), slice(-w, None))]
    levels = np.sort([np.median(corner, axis=(-2, -1)) for corner in corners], axis=0)
    level: NDArray[np.float32] = levels[1:3].mean(axis=0)
    return level


def _whole(grey: Image.Image, invert: bool) -> NDArray[np.uint8]:
    """Return the whole image, fitted into 28×28 and centred on its own background."""
    pixels = np.asarray(grey, np.float32)
    fitted = _fitted(pixels, _SIZE)
    top, left = ((_SIZE - length) // 2 for length in fitted.shape)
    pixels = _pasted(fitted, top, left, np.full(IMAGE_SHAPE, _corner_level(pixels)))
    return _bytes(255 - pixels if invert else pixels)


def _foreground(grey: Image.Image, dark: bool) -> NDArray[np.float32]:
    """Return the contrast to the background, 0 or more, cropped to the foreground.

    The foreground is found in a reduced image. If it is small there, that part of the image is searched again at a
    higher resolution.
    """
    rounding = 0.5 if grey.mode == "L" else 0.0
    while True:
        small = reduced(grey, _REDUCED_SIZE)
        pixels = np.asarray(small, np.float32)
        contrast = pixels - _background(pixels)
        contrast = np.maximum(-contrast if dark else contrast, 0)
        mask = contrast > max(_MIN_CONTRAST * contrast.max(), _MIN_DEVIATIONS * _noise(pixels, rounding))
        if not mask.any():
            raise ImageFileError("blank: nothing in it stands out from the noise; give an image with something in it")
        (top, bottom), (left, right) = (np.flatnonzero(mask.any(axis=axis))[[0, -1]] + (0, 1) for axis in (1, 0))
        side = max(bottom - top, right - left)
        if small is grey or 2 * side > max(small.size):
            return np.where(mask, contrast, 0)[top:bottom, left:right]
        margin = 2 + side // 8  # some background
        corners = np.clip([(left - margin, top - margin), (right + margin, bottom + margin)], 0, small.size)
        x0, y0, x1, y1 = (corners * np.divide(grey.size, small.size)).astype(int).ravel().tolist()
        grey = grey.crop((x0, y0, x1, y1))


def _rim(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the outermost pixels in a row."""
    return np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])


def _noise(pixels: NDArray[np.float32], rounding: float) -> float:
    """Estimate the standard deviation of the noise from the differences of neighbours on the rim.

    A quarter of all pairs of values with normally distributed noise differ by less than 0.45 of its standard deviation.
    Rounding can hide differences of up to its own size.
    """
    return float(np.quantile(np.abs(np.diff(_rim(pixels))), 0.25) + rounding) / 0.4506


def _background(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the background everywhere, also behind the foreground, for paper that is not lit evenly.

    It is the surface of second order with the least sum of absolute deviations from the rim, so that foreground on the
    rim is ignored unless it covers most of it. It is found by iteratively reweighted least squares.
    """
    y, x = (np.linspace(-1, 1, length, dtype=np.float32) for length in pixels.shape)
    rim, rim_y, rim_x = (_rim(np.broadcast_to(values, pixels.shape)) for values in (pixels, y[:, None], x))
    terms = np.stack([np.ones_like(rim), rim_x, rim_y, rim_x**2, rim_x * rim_y, rim_y**2])
    smallest = max(float(np.ptp(pixels)), 1e-6) / 255  # all pixels of the reduced image may be alike
    surface = np.array([np.median(rim), 0, 0, 0, 0, 0])
    for _ in range(_ITERATIONS):
        weighted = terms / np.maximum(np.abs(rim - surface @ terms), smallest)
        surface = np.linalg.lstsq(weighted @ terms.T, weighted @ rim)[0]  # one of many, if there is but one row
    level, by_x, by_y, by_xx, by_xy, by_yy = surface.astype(np.float32)
    background: NDArray[np.float32] = by_xy * np.outer(y, x) + (by_x * x + by_xx * x**2)
    background += (level + by_y * y + by_yy * y**2)[:, None]
    return background


def _place(foreground: NDArray[np.float32], framing: Framing) -> NDArray[np.uint8]:
    """Scale the foreground to the size of the training images and to the whole range of grey, and place it."""
    fitted = np.maximum(_fitted(foreground, framing.side), 0)
    fitted *= 255 / fitted.max()
    top, left = (_offset(fitted.sum(axis=axis), framing.by_mass) for axis in (1, 0))
    return _bytes(_pasted(fitted, top, left, np.zeros(IMAGE_SHAPE, np.float32)))


def _offset(mass: NDArray[np.float32], by_mass: bool) -> int:
    """Return the first row, or column, of a foreground with this mass in its rows, so that it is centred."""
    free = _SIZE - len(mass)
    if not by_mass:
        return free // 2
    centre = np.average(np.arange(len(mass)), weights=mass)
    return int(np.clip(round(_SIZE / 2 - centre), 0, free))  # the middle of MNIST's images is pixel 14


def _fitted(pixels: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return the pixels with their longer side scaled to `side`, and the other one in proportion."""
    if max(pixels.shape) == side:
        return pixels
    height, width = (max(1, round(length * side / max(pixels.shape))) for length in pixels.shape)
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def _pasted(pixels: NDArray[np.float32], top: int, left: int, canvas: NDArray[np.float32]) -> NDArray[np.float32]:
    canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return canvas


def _bytes(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round to bytes; scaling may leave their range."""
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
