"""The thickness of strokes: of a thick pen, they are made as thin as those of the training images."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lightning_cnn.predict.morphology import dilated, padded

#: Thickness of strokes in pixels of the training images, beyond which they are made thinner, and which they get then.
#: Of MNIST's first 2,000 test images, 99 % have strokes of at most 4.0 pixels, and half of them at most 2.0.
_THICKEST, _WANTED = 4.5, 3.2
#: The pixels of the picture for one of the training images, below which the thickness would be guessed.
_FINEST = 1.5
#: The thickness that the thinner strokes of a foreground have: the quantile of the thickness along its middle lines.
_QUANTILE = 0.25


def thinned(ink: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return ink with strokes that are no thicker than those of the training images, by erosion.

    Args:
        ink: Contrast to the paper, cropped to what is ink, `(H, W)`.
        side: The longer side that it will have among the training images, in pixels.
    """
    pixel, mask = max(ink.shape) / side, ink > ink.max() / 2
    if pixel < _FINEST:
        return ink
    wanted, thickest = _WANTED * pixel, _THICKEST * pixel
    if dilated(~padded(mask, 1), int(thickest / 8**0.5)).all():  # no square in a disc of this diameter fits in
        return ink
    distance = _distance(mask)
    excess = _thickness(distance) - wanted
    if excess <= thickest - wanted:
        return ink
    eroded = ink * np.clip(distance - excess / 2, 0, 1).astype(np.float32)
    rows, columns = (np.flatnonzero((eroded > 0).any(axis=axis)) for axis in (1, 0))
    return eroded[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else ink


def stroke_thickness(mask: NDArray[np.bool_]) -> float:
    """Return the thickness of the thinner strokes of a mask: twice the distance of their middle lines from its rim."""
    return _thickness(_distance(mask))


def _distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the distance of each pixel of a mask from the nearest one that is not, 0 elsewhere."""
    return np.asarray(ndimage.distance_transform_edt(padded(mask, 1)))[1:-1, 1:-1]


def _thickness(distance: NDArray[np.float64]) -> float:
    middle = (distance == ndimage.maximum_filter(distance, 3, mode="constant")) & (distance > 1)
    return float(2 * np.quantile(distance[middle], _QUANTILE)) if middle.any() else 1.0
