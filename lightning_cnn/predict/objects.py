"""Objects on a backdrop, such as clothes: an area with grey values of its own, which are kept."""

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from lightning_cnn.predict.background import LUMINANCE, SIDE, Mask, Pixels, corner_level, rim, surface
from lightning_cnn.predict.morphology import dilated_by_cross, eroded_by_cross

#: The least difference of an object from its backdrop, in standard deviations of that.
_MIN_DEVIATIONS = 4.0
#: The least standard deviation that is assumed, in grey values: rounding and JPEG.
_MIN_DEVIATION = 1.5
#: The least share of an object that is left without its shadow.
_MAX_SHADOW = 0.6
#: The difference from the corners, in grey values, that is enough if the rim does not show the backdrop.
_OTHER = 12
#: A backdrop whose deviations are larger, as a share of its light, has a pattern: wood, cloth, grass.
_PATTERN = 0.05
#: The same, if the outline of the object may not be found.
_COARSE_PATTERN = 0.1
#: The level below which a backdrop is black, and the object light on it as in the training images.
_BLACK = 40
#: The change from pixel to pixel, as a share of the backdrop's light, below which there is no edge: that of a soft
#: shadow.
_EDGE = 0.036
#: Half of the width of a gap, in pixels, that is closed.
_GAP = 2
#: The least area of a part of an object, as a share of the largest one.
_MIN_PART = 0.05


class Object(NamedTuple):
    """An object.

    Attributes:
        values: As in the training images: 255 for black, on a background of 0; `(H, W)`.
        unclear: Why it may not be what was meant; empty if it is clear.
        dark: Whether the backdrop is light.
    """

    values: Pixels
    unclear: str
    dark: bool

    def refined(self, image: Image.Image, box: tuple[int, int, int, int]) -> Pixels:
        """Return the object in a part of the picture, at the resolution of the image that it was reduced from."""
        top, left, bottom, right = box
        x, y = (length / own for length, own in zip(image.size, self.values.shape[::-1], strict=True))
        end = (min(int(right * x) + 1, image.width), min(int(bottom * y) + 1, image.height))
        part = image.crop((int(left * x), int(top * y), *end))
        part.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
        found = find_object(part, self.dark)
        return self.values[top:bottom, left:right] if found is None else found.values


def find_object(image: Image.Image, dark: bool | None = None) -> Object | None:
    """Return the object in a picture, or None if it is blank."""
    grey = np.asarray(image.convert("L") if image.mode == "RGB" else image, np.float32)
    bands = np.moveaxis(np.asarray(image, np.float32), 2, 0) if image.mode == "RGB" else grey[None]
    backdrops = [surface(band) for band in bands]
    residuals = np.stack(
        [
            band - (np.median(rim(band)) if backdrop is None else backdrop)
            for band, backdrop in zip(bands, backdrops, strict=True)
        ]
    )
    distance, deviation = _distance(residuals)
    level = corner_level(grey)
    pattern = deviation > _PATTERN * max(level, _BLACK)
    mask = (ndimage.uniform_filter(distance, 3) if pattern else distance) > _MIN_DEVIATIONS
    if not mask.any():  # the object covers the rim
        pattern = False
        mask = np.max([np.abs(band - corner_level(band)) for band in bands], axis=0) > _OTHER
    if not mask.any():
        return None
    fitted = [backdrop for backdrop in backdrops if backdrop is not None]
    light = np.full_like(grey, level)
    if len(fitted) == len(bands):
        light = fitted[0] if len(bands) == 1 else np.tensordot(LUMINANCE, np.stack(fitted), 1)
    if dark is None:
        dark = level > _BLACK
    whole = _main_parts(mask, pattern)
    if dark:
        mask = _main_parts(mask & ~_shadow(grey, light, mask), pattern)
        if mask.sum() < _MAX_SHADOW * whole.sum():  # it has leaked into an object as light as its backdrop
            mask = whole
    else:
        mask = whole
    if not mask.any():
        mask = whole if whole.any() else np.ones_like(mask)
    if dark:
        white = 255.0 if level > 170 else level
        values = 255 - np.minimum(grey * (white / np.maximum(light, 1)), 255)
    else:
        values = grey - light
    values = np.where(mask, np.maximum(values, 1), 0).astype(np.float32)
    unclear = "the backdrop has a pattern" if deviation > _COARSE_PATTERN * max(level, _BLACK) else ""
    return Object(values, unclear, dark)


def _distance(residuals: Pixels) -> tuple[Pixels, float]:
    """Return how far each pixel is from the backdrop, in standard deviations of that, and the largest of these.

    It is the Mahalanobis distance for the colours at the rim; the tenth of them that is farthest off may be object. One
    band is like three equal ones: a file may have a grey picture in either way.
    """
    copies = 3 / len(residuals)
    at_rim = np.stack([rim(band) for band in residuals])
    off = np.abs(at_rim).sum(axis=0)
    at_rim = at_rim[:, off <= np.quantile(off, 0.9)]
    covariance = np.atleast_2d(np.cov(at_rim, ddof=0)) + _MIN_DEVIATION**2 / copies * np.eye(len(residuals))
    values, axes = np.linalg.eigh(covariance)
    flat = (axes / np.sqrt(values)).T.astype(np.float32) @ residuals.reshape(len(residuals), -1)
    return np.sqrt((flat**2).sum(axis=0)).reshape(residuals.shape[1:]), float(np.sqrt(copies * values[-1]))


def _shadow(grey: Pixels, light: Pixels, mask: Mask) -> Mask:
    """Return what is darker than the backdrop and not separated from it by an edge."""
    if min(grey.shape) < 2:
        return np.zeros_like(mask)
    smooth = ndimage.uniform_filter(grey, 3)
    change = np.hypot(*np.gradient(smooth))
    soft = (change < _EDGE * light) & (smooth < light) & (smooth > 0.5 * light) | ~mask
    labels, _ = ndimage.label(soft)
    outside = np.isin(labels, np.unique(rim(labels)[rim(labels) > 0])) & soft
    return np.asarray(dilated_by_cross(outside) & (smooth > 0.5 * light))


def _main_parts(mask: Mask, pattern: bool) -> Mask:
    if pattern:
        mask = dilated_by_cross(~dilated_by_cross(~mask, 2), 2)
    mask = eroded_by_cross(dilated_by_cross(mask, _GAP), _GAP)
    mask = ndimage.binary_fill_holes(mask)
    labels, number = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=number + 1)
    areas[0] = 0
    return np.asarray((areas >= max(_MIN_PART * areas.max(), 1))[labels])
