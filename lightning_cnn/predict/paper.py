"""The paper of a picture: whether ink on it is dark, its light behind the ink, and the contrast of the ink to it."""

import numpy as np
from scipy import ndimage

from lightning_cnn.predict.background import Pixels, corner_level, rim, surface
from lightning_cnn.predict.morphology import closed

#: The thickness of a thin mark, as a share of the longer side: that of strokes, and less than what they enclose.
_THIN = 0.1
#: The window of the closing that leaves the paper, as a share of the longer side: wider than strokes, and narrower than
#: most shadows.
_WINDOW = 0.3
#: The standard deviation of values that are rounded to whole ones; it hides noise that is smaller.
_ROUNDING = 0.29
#: The least difference of black from the paper, or of white, that contrast is measured with.
_BLACK = 8.0
#: A rim of paper: how far from the middle between the lightest and the darkest pixel it is at least, …
_SURE_RIM = 0.3
#: … from its own median at most, …
_EVEN = 0.15
#: … and for which share of its pixels.
_EVEN_SHARE = 0.9
#: How far corners must be from that middle for it to be sure that they are light, or dark.
_SURE_CORNER = 0.15


def is_dark(smooth: Pixels) -> tuple[bool, bool]:
    """Return whether the ink is dark, and whether that is sure.

    It is if the rim is evenly light, for strokes may be thicker than the gaps between them. Where the rim is not even,
    it is if thin dark marks are stronger than thin light ones: closing fills thin dark marks, and opening removes thin
    light ones, whatever the light on the paper is. If neither are, it is if the corners are light.
    """
    low, high = float(smooth.min()), float(smooth.max())
    around = (rim(smooth) - low) / max(high - low, 1e-6)
    level = float(np.median(around))
    if abs(level - 0.5) > _SURE_RIM and np.mean(np.abs(around - level) < _EVEN) > _EVEN_SHARE:
        return level > 0.5, True
    small = smooth[::2, ::2]
    size = _odd(_THIN * max(small.shape))
    dark, light = (float(((_closed(small, size, side) - small) ** 2).sum()) for side in (True, False))
    corner = (corner_level(smooth) - low) / max(high - low, 1e-6)
    if max(dark, light) > 2 * min(dark, light):
        return dark > light, True
    return corner > 0.5, abs(corner - 0.5) > _SURE_CORNER


def find_paper(grey: Pixels, smooth: Pixels, dark: bool) -> Pixels:
    """Return the paper behind the ink.

    Closing (opening, for light ink) keeps the light on the paper, even the hard edge of a shadow, and fills what is
    narrower than its window. Ink that is wider is left; then the paper is a surface that fits the rim. What is wider
    than half of the picture is not ink but a shadow.
    """
    local = _closed(smooth, _odd(_WINDOW * max(smooth.shape)), dark)
    if not _has_ink(local, smooth, dark):
        return np.asarray(ndimage.uniform_filter(local, 3))
    small = smooth[::2, ::2]
    if _has_ink(_closed(small, _odd(0.5 * max(small.shape)), dark), small, dark):
        return np.asarray(ndimage.uniform_filter(local, 3))
    fitted = surface(grey)
    return np.full_like(grey, corner_level(grey)) if fitted is None else fitted


def contrast_to(grey: Pixels, paper: Pixels, dark: bool) -> Pixels:
    """Return the contrast to the paper, as a share of the contrast of black, or of white, in the same place."""
    if dark:
        return np.asarray(np.maximum(1 - grey / np.maximum(paper, _BLACK), 0))
    return np.asarray(np.maximum(grey - paper, 0) / np.maximum(255 - paper, _BLACK))


def contrast_of_noise(grey: Pixels, smooth: Pixels, paper: Pixels, dark: bool) -> float:
    """Return the standard deviation that noise gives the contrast."""
    deviation = float(np.median(np.abs(grey[::2, ::2] - smooth[::2, ::2])))
    noise = 1.4826 * deviation + _ROUNDING  # 1.4826 is of the normal distribution
    level = float(np.median(paper[::2, ::2])) if dark else 255 - float(paper.max())  # where it is glaring, most of all
    return noise / max(level, _BLACK)


def _closed(pixels: Pixels, size: int, dark: bool) -> Pixels:
    """Return the closing of a picture, or its opening if ink is light."""
    return closed(pixels, size) if dark else -closed(-pixels, size)


def _has_ink(paper: Pixels, smooth: Pixels, dark: bool) -> bool:
    """Whether some of the paper is about as dark as the darkest ink (as light, if ink is light)."""
    low, high = float(smooth.min()), float(smooth.max())
    if dark:
        return float(np.quantile(paper[::2, ::2], 0.005)) < low + 0.25 * (high - low)
    return float(np.quantile(paper[::2, ::2], 0.995)) > high - 0.25 * (high - low)


def _odd(size: float) -> int:
    return int(size) | 1
