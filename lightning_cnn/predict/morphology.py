"""Dilation, erosion and closing of small pictures, for which `scipy.ndimage` takes several times as long.

The maximum over a window is that of shifted copies: doubling the shift, as many are needed as the window has bits.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lightning_cnn.predict.background import Mask, Pixels

#: How much darker the rim is at least, as a share of the range of values, where ink touches it.
_LEAST_INK = 0.25
_Values = TypeVar("_Values", np.float32, np.bool_)


def padded(mask: Mask, width: int) -> Mask:
    """Return the mask with a margin that does not belong to it; `np.pad` takes ten times as long."""
    wide = np.zeros((mask.shape[0] + 2 * width, mask.shape[1] + 2 * width), bool)
    wide[width : width + mask.shape[0], width : width + mask.shape[1]] = mask
    return wide


def dilated(mask: Mask, radius: int = 1) -> Mask:
    """Return the pixels within a square of `2 * radius + 1` pixels around those of a mask; outside, there are none."""
    return _windows(padded(mask, radius), 2 * radius + 1, np.maximum)


def dilated_by_cross(mask: Mask, iterations: int = 1) -> Mask:
    """Return the mask with its neighbours above, below, left and right, so many times."""
    grown = padded(mask, 1)
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

    Beyond the rim, the picture goes on as it is there after closing along the rim, with a window of twice the size: ink
    that touches the rim ends there, and light that falls off towards it is kept.

    Args:
        pixels: Grey values, `(H, W)`.
        size: The side of the window in pixels, odd.
    """
    far, wide = 2 * (size // 2), 2 * size + 1
    least = _LEAST_INK * np.ptp(pixels)
    around = pixels
    for _ in range(2):  # below and above, then to the left and right
        ends = around[[0, -1]].T
        ends = np.concatenate([np.tile(ends[0], (2 * size, 1)), ends, np.tile(ends[-1], (2 * size, 1))])
        filled = _along(_along(ends, wide, np.maximum), wide, np.minimum)
        ends = ends[2 * size : -2 * size]
        first, last = np.where(filled - ends > least, filled, ends).T
        around = np.concatenate([np.tile(first, (far, 1)), around, np.tile(last, (far, 1))]).T
    return _windows(_windows(np.ascontiguousarray(around), size, np.maximum), size, np.minimum)


def _windows(values: NDArray[_Values], size: int, join: np.ufunc) -> NDArray[_Values]:
    """Return the maximum, or minimum, over each window that is inside, `(H - size + 1, W - size + 1)`."""
    for _ in range(2):
        values = np.ascontiguousarray(_along(values, size, join).T)
    return values


def _along(values: NDArray[_Values], size: int, join: np.ufunc) -> NDArray[_Values]:
    """Return the same over so many rows, `(H - size + 1, W)`."""
    length, reach = len(values) - size + 1, 1
    while 2 * reach <= size:
        values = join(values[:-reach], values[reach:])
        reach *= 2
    joined: NDArray[_Values] = join(values[:length], values[size - reach :][:length])
    return joined
