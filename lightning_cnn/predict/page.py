"""The page in a picture: the sheet on a table, the scan within its black border, the inside of a box or of a cell."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lightning_cnn.predict.background import Mask, rim
from lightning_cnn.predict.morphology import dilated_by_cross, eroded_by_cross, padded

#: The least area of a page, as a share of the picture: the cell of a form, in which a digit is a sixth as high as it.
_MIN_AREA = 0.005
#: The least length of what is on the page, as a share of the page's: less is a speck.
_MIN_CONTENT = 0.08
#: The share of the outline that must be on the sides of a quadrilateral: all of a sheet, three of four sides if one is
#: torn; of a 0 or an 8, which is also a region with something in it, a third.
_MIN_STRAIGHT = 0.75
#: Distance from a side that is still on it, as a share of the diagonal.
_STRAIGHT = 0.015
#: Half of the width, in pixels, of a gap in the edge of a sheet that is closed: ink touches the edge there …
_SEAL = 3
#: … if the sheet is larger than this share of the picture.
_MIN_SHEET = 0.1
#: Regions that are looked at, the largest first.
_MAX_REGIONS = 6


class Page(NamedTuple):
    """A page.

    Attributes:
        paper: The pixels of the page itself.
        inside: These, and what is on it.
    """

    paper: Mask
    inside: Mask


def find_page(grey: NDArray[np.float32], threshold: float) -> Page | None:
    """Return the smallest page with something on it, if there is something around it.

    A page is a connected region of light, or of dark, pixels that has four corners and something in it. Dark ones must
    not touch the rim, as shadows do.
    """
    light = grey > threshold
    best = None
    for side in (light, ~light):
        labels, number = ndimage.label(side)
        areas = np.bincount(labels.ravel(), minlength=number + 1)
        areas[0] = 0
        boxes = ndimage.find_objects(labels)
        for label in np.argsort(areas)[::-1][:_MAX_REGIONS]:
            if areas[label] < _MIN_AREA * grey.size:
                break
            box = boxes[label - 1]
            paper = labels[box] == label
            if (paper.size == grey.size and rim(paper).all()) or (side is not light and _touches_rim(box, grey.shape)):
                continue  # nothing is around it, or it is a shadow
            inside = ndimage.binary_fill_holes(paper)
            whole = side is light and areas[label] > _MIN_SHEET * grey.size and not _touches_rim(box, grey.shape)
            if whole and not _has_content(inside & ~paper):
                inside = _sealed(paper)
            if (
                (inside.size < grey.size or not inside.all())
                and _has_content(inside & ~paper)
                and _has_four_corners(inside, box, grey.shape)
                and (best is None or inside.sum() < best.inside.sum())
            ):
                best = Page(np.zeros_like(light), np.zeros_like(light))
                best.paper[box], best.inside[box] = paper, inside
    return best


def _sealed(paper: Mask) -> Mask:
    """Return the page with ink that nearly touches its edge."""
    wide = dilated_by_cross(padded(paper, _SEAL), _SEAL)
    return np.asarray(ndimage.binary_fill_holes(eroded_by_cross(wide, _SEAL)[_SEAL:-_SEAL, _SEAL:-_SEAL]))


def _touches_rim(box: tuple[slice, slice], shape: tuple[int, ...]) -> bool:
    return any(part.start == 0 or part.stop == length for part, length in zip(box, shape, strict=True))


def _has_content(content: Mask) -> bool:
    if not content.any():
        return False
    boxes = ndimage.find_objects(ndimage.label(content, np.ones((3, 3)))[0])
    longest = max(max(s.stop - s.start for s in box) for box in boxes)
    return bool(longest >= _MIN_CONTENT * max(content.shape))


def _has_four_corners(inside: Mask, box: tuple[slice, slice], shape: tuple[int, ...]) -> bool:
    """Whether the outline is a quadrilateral: the corners are the outermost points along the diagonals of a box.

    The box is the smallest one around the region, of any direction. What lies on the edge of the picture is straight.
    """
    y, x = np.nonzero(inside & dilated_by_cross(np.pad(~inside, 1, constant_values=True))[1:-1, 1:-1])
    angles = np.linspace(0, np.pi / 2, 18, endpoint=False)
    across = np.cos(angles)[:, None] * x + np.sin(angles)[:, None] * y
    along = np.cos(angles)[:, None] * y - np.sin(angles)[:, None] * x
    widths, heights = np.ptp(across, axis=1) + 1, np.ptp(along, axis=1) + 1
    best = int(np.argmin(widths * heights))
    u, v = across[best] / widths[best], along[best] / heights[best]
    corners = np.array([np.argmax(u + v), np.argmax(v - u), np.argmin(u + v), np.argmin(v - u)])
    start_x, start_y = x[corners].astype(float), y[corners].astype(float)
    side_x, side_y = np.roll(start_x, -1) - start_x, np.roll(start_y, -1) - start_y
    length = np.maximum(np.hypot(side_x, side_y), 1)
    distance = np.abs((x[:, None] - start_x) * side_y - (y[:, None] - start_y) * side_x) / length
    straight = distance.min(axis=1) < 0.5 + _STRAIGHT * np.hypot(*inside.shape)
    top, left = box[0].start, box[1].start
    straight |= (y + top == 0) | (x + left == 0) | (y + top == shape[0] - 1) | (x + left == shape[1] - 1)
    return bool(straight.mean() >= _MIN_STRAIGHT)
