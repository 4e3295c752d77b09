"""The background of a picture, from what is at its rim and in its corners."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Grey values, `(H, W)`.
Pixels = NDArray[np.float32]
#: Which pixels, `(H, W)`.
Mask = NDArray[np.bool_]

#: Weights of red, green and blue in the grey value.
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
#: The longer side, in pixels, of the picture that is looked at: fine enough for a digit that is a sixth as high, and
#: the averaged pixels of a photograph are less noisy.
SIDE = 144
#: Iterations of least squares for the surface, at most, …
_ITERATIONS = 12
#: … and the change of a coefficient, as a share of the range of values, below which more change nothing visible.
_CONVERGED = 2e-3
#: The deviation from the surface, as a share of the range of values, that noise and pattern make …
_TOLERANCE = 0.06
#: … and the share of the rim that must not deviate more: the rest may be foreground.
_EXPLAINED = 0.6


def rim(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return the outermost pixels in a row."""
    return np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])


def corner_level(pixels: Pixels) -> float:
    """Return the mean of the middle two of the four corners' medians; one or two corners may contain foreground."""
    h, w = (max(1, length // 16) for length in pixels.shape)
    corners = [np.median(pixels[y, x]) for y in (slice(h), slice(-h, None)) for x in (slice(w), slice(-w, None))]
    return float(np.mean(np.sort(corners)[1:3]))


def surface(pixels: Pixels) -> Pixels | None:
    """Return the surface of second order that fits the rim, for paper that is not lit evenly; None if none fits.

    It is the one with the least sum of absolute deviations, so that foreground on the rim is ignored unless it covers
    most of it. It is found by iteratively reweighted least squares.
    """
    y, x = (np.linspace(-1, 1, length, dtype=np.float32) for length in pixels.shape)
    values, rim_y, rim_x = (rim(np.broadcast_to(values, pixels.shape)) for values in (pixels, y[:, None], x))
    terms = np.stack([np.ones_like(values), rim_x, rim_y, rim_x**2, rim_x * rim_y, rim_y**2])
    scale = max(float(np.ptp(pixels)), 1e-6)
    coefficients = np.array([np.median(values), 0, 0, 0, 0, 0])
    for _ in range(_ITERATIONS):
        weighted = terms / np.maximum(np.abs(values - coefficients @ terms), scale / 255)
        moments = weighted @ terms.T
        moments += 1e-6 * moments[0, 0] * np.eye(6, dtype=np.float32)  # with but one row, there are many solutions
        last, coefficients = coefficients, np.linalg.solve(moments, weighted @ values)
        if np.abs(coefficients - last).max() < _CONVERGED * scale:
            break
    if np.quantile(np.abs(values - coefficients @ terms), _EXPLAINED) > _TOLERANCE * scale:
        return None
    level, by_x, by_y, by_xx, by_xy, by_yy = coefficients.astype(np.float32)
    fitted: Pixels = by_xy * np.outer(y, x) + (by_x * x + by_xx * x**2)
    fitted += (level + by_y * y + by_yy * y**2)[:, None]
    return fitted
