"""From a picture of any size to one like those of a dataset: grey, light ink on black, 28×28, placed as they are.

What is not background is called ink, be it of a pen or a shoe.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_cnn.data.facts import Framing
from lightning_cnn.data.idx import IMAGE_SHAPE
from lightning_cnn.data.image_files import ImageFileError, reduced

_SIZE = IMAGE_SHAPE[0]
#: Longest side, in pixels, on which ink is looked for: fine enough for 28, and blocks of a photograph's pixels are
#: less noisy than these.
_LOOK = 256
#: Share of the ink's range below which all is background: noise, shadows of JPEG.
_FAINT = 0.1
#: How many standard deviations of the noise ink must stand out by.
_NOISE = 6.0
#: Rounds in which the surface of the background comes to pass over what is no background.
_ROUNDS = 12


def frame(
    image: Image.Image, framing: Framing, invert: bool | None = None, crop: bool | None = None
) -> NDArray[np.uint8]:
    """Return what the network shall see of an image, `(28, 28)`, light on black.

    Args:
        image: Has mode RGB, L or F, with values from 0 to 255.
        framing: How the training images were made from larger ones.
        invert: Whether the ink is dark on light; None finds out.
        crop: Whether to crop to the ink and frame that, or to take the whole image as framed already; None does what
            the size says: 28×28 is framed.

    Raises:
        ImageFileError: If there is nothing in the image.
    """
    grey = image.convert("L") if image.mode == "RGB" else image
    low, high = grey.getextrema()
    if low == high:
        raise ImageFileError("blank: all its pixels are alike; give an image with something in it")
    if invert is None:
        invert = _is_dark_on_light(np.asarray(reduced(grey, _LOOK), np.float32))
    if crop is None:
        crop = grey.size != IMAGE_SHAPE
    return _place(_ink(grey, invert), framing) if crop else _whole(grey, invert)


def _is_dark_on_light(pixels: NDArray[np.float32]) -> bool:
    """Whether the background, as it is in the corners, is nearer to the lightest than to the darkest pixel.

    None of the 70,000 images of MNIST or of Fashion-MNIST is taken for dark on light, and each of their negatives is.
    """
    return bool(2 * _corners(pixels) > pixels.min() + pixels.max())


def _corners(pixels: NDArray[np.float32]) -> np.float32:
    """How light the corners are: the mean of the middle two of the four, as one or two may have ink in them."""
    h, w = (max(1, length // 16) for length in pixels.shape)
    corners = (pixels[:h, :w], pixels[:h, -w:], pixels[-h:, :w], pixels[-h:, -w:])
    middle: np.float32 = np.mean(sorted(np.median(corner) for corner in corners)[1:3])
    return middle


def _whole(grey: Image.Image, invert: bool) -> NDArray[np.uint8]:
    """Return the whole image, fitted into 28×28 if it is not of that size, in the middle of its own background."""
    pixels = np.asarray(grey, np.float32)
    if pixels.shape != IMAGE_SHAPE:
        fitted = _fitted(pixels, _SIZE)
        top, left = ((_SIZE - length) // 2 for length in fitted.shape)
        pixels = np.full(IMAGE_SHAPE, _corners(pixels))
        pixels[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return _bytes(255 - pixels if invert else pixels)


def _ink(grey: Image.Image, dark: bool) -> NDArray[np.float32]:
    """Return how much ink is where, 0 or more, cropped to it.

    The image is looked at in coarse blocks of pixels first. Where the ink takes up but a small part, that part is
    looked at again, more closely.
    """
    rounding = 0.5 if grey.mode == "L" else 0.0
    while True:
        few = reduced(grey, _LOOK)
        pixels = np.asarray(few, np.float32)
        ink = pixels - _background(pixels)
        ink = np.maximum(-ink if dark else ink, 0)
        there = ink > max(_FAINT * ink.max(), _NOISE * _noise(pixels, rounding))
        if not there.any():
            raise ImageFileError("blank: nothing in it stands out from the noise; give an image with something in it")
        rows, columns = _extent(there.any(axis=1)), _extent(there.any(axis=0))
        if few is grey or 2 * max(len(rows), len(columns)) > max(few.size):
            return np.where(there, ink, 0)[np.ix_(rows, columns)]
        grey = grey.crop(_around(rows, columns, few, grey))


def _extent(there: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the indices from the first to the last place where there is something."""
    places = np.flatnonzero(there)
    return np.arange(places[0], places[-1] + 1)


def _around(
    rows: NDArray[np.intp], columns: NDArray[np.intp], few: Image.Image, grey: Image.Image
) -> tuple[int, int, int, int]:
    """Return the box in the image that rows and columns of its reduction mean, with some background around them."""
    margin = 2 + max(len(rows), len(columns)) // 8
    across, down = grey.width / few.width, grey.height / few.height
    left, right = max(0, columns[0] - margin), min(few.width, columns[-1] + 1 + margin)
    top, bottom = max(0, rows[0] - margin), min(few.height, rows[-1] + 1 + margin)
    return int(left * across), int(top * down), int(right * across), int(bottom * down)


def _rim(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the outermost pixels in a row."""
    return np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])


def _noise(pixels: NDArray[np.float32], rounding: float) -> float:
    """Estimate the standard deviation of the noise from how neighbours differ on the rim, where a part is background.

    A quarter of all pairs of values with normally distributed noise differ by less than 0.45 of its standard deviation.
    Rounding hides as much of the differences as it can make of them.
    """
    return float(np.quantile(np.abs(np.diff(_rim(pixels))), 0.25) + rounding) / 0.4506


def _background(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the background everywhere, also behind the ink, for paper that is not lit evenly.

    It is the surface of second order that deviates least, in sum, from the rim: ink that reaches the rim is passed
    over, unless it covers most of it. Least absolute deviations are found by weighted least squares, repeated.
    """
    y, x = (np.linspace(-1, 1, length, dtype=np.float32) for length in pixels.shape)
    rim, rim_y, rim_x = (_rim(np.broadcast_to(of_all, pixels.shape)) for of_all in (pixels, y[:, None], x))
    terms = np.stack([np.ones_like(rim), rim_x, rim_y, rim_x**2, rim_x * rim_y, rim_y**2])
    nothing = max(float(np.ptp(pixels)), 1e-6) / 255  # dots of one pixel may have gone when the image was reduced
    surface = np.array([np.median(rim), 0, 0, 0, 0, 0])
    for _ in range(_ROUNDS):
        weighted = terms / np.maximum(np.abs(rim - surface @ terms), nothing)
        surface = np.linalg.lstsq(weighted @ terms.T, weighted @ rim)[0]  # one of many, if there is but one row
    level, by_x, by_y, by_xx, by_xy, by_yy = surface.astype(np.float32)
    background: NDArray[np.float32] = by_xy * np.outer(y, x) + (by_x * x + by_xx * x**2)
    background += (level + by_y * y + by_yy * y**2)[:, None]
    return background


def _place(ink: NDArray[np.float32], framing: Framing) -> NDArray[np.uint8]:
    """Scale ink to the side that its longer one shall have and to the whole range of grey, and place it."""
    fitted = np.maximum(_fitted(ink, framing.side), 0)
    fitted *= 255 / fitted.max()
    top, left = (_start(fitted.sum(axis=axis), framing.by_mass) for axis in (1, 0))
    image = np.zeros(IMAGE_SHAPE, np.float32)
    image[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return _bytes(image)


def _start(mass: NDArray[np.float32], by_mass: bool) -> int:
    """Return where ink with this mass in its rows, or columns, starts, so that its centre comes to the middle."""
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


def _bytes(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round to bytes, and cut off what scaling made larger or smaller than they can be."""
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
