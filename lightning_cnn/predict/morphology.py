"""Dilation, erosion and closing of small pictures, for which `scipy.ndimage` takes several times as long.

The maximum over a window is that of shifted copies: doubling the shift, as many are needed as the window has bits.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lightning_cnn.predict.background import Mask, Pixels

_Values = TypeVar("_Values", np.float32, np.bool_)


def dilated(mask: Mask, radius: int = 1) -> Mask:
    """Return the pixels within a square of `2 * radius + 1` pixels around those of a mask; outside, there are none."""
    return _windows(np.pad(mask, radius), 2 * radius + 1, np.maximum)


def dilated_by_cross(mask: Mask, iterations: int = 1) -> Mask:
    """Return the mask with its neighbours above, below, left and right, so many times."""
    grown = np.pad(mask, 1)
    for _ in range(iterations):
        last = grown.copy()
        grown[1:] |= last[:-1]
        grown[:-1] |= last[1:]
        grown[:, 1:] |= last[:, :-1]
        grown[:, :-1] |= last[:, 1:]
        grown[[0, -1]] = grown[:, [0, -1]] = False
    return grown[1:-1, 1:-1]


def eroded_by_cross(mask: Mask, iterations: int = 1) -> Mask:
    """Return the mask without its outermost pixels, so many times; outside, all pixels belong to it."""
    return ~dilated_by_cross(~mask, iterations)


def closed(pixels: Pixels, size: int) -> Pixels:
    """Return the greyscale closing with a square window: what is dark and narrower than it is filled.

    Args:
        pixels: Continued beyond the rim as it is at the rim.
        size: The side of the window in pixels, odd.
    """
    around = np.pad(pixels, 2 * (size // 2), mode="edge")
    return _windows(_windows(around, size, np.maximum), size, np.minimum)


def _windows(values: NDArray[_Values], size: int, join: np.ufunc) -> NDArray[_Values]:
    """Return the maximum, or minimum, over each window that is inside, `(H - size + 1, W - size + 1)`."""
    for _ in range(2):
        length, reach = len(values) - size + 1, 1
        while 2 * reach <= size:
            values = join(values[:-reach], values[reach:])
            reach *= 2
        values = join(values[:length], values[size - reach :][:length])
        values = np.ascontiguousarray(values.T)
    return values
