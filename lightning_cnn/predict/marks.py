"""The marks on a page: ruled lines are taken away, and what belongs together is told from specks and far marks."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lightning_cnn.predict.background import Mask
from lightning_cnn.predict.morphology import dilated, eroded_by_cross, padded

#: The slopes of lines that are looked for: a sheet photographed by hand is up to 11° askew.
_SLOPES = np.linspace(-0.2, 0.2, 21)
#: The least length of a line, as a share of the picture's.
_MIN_LINE = 0.55
#: The same, as a share of its other side, for long pictures.
_MIN_SHARE = 0.4
#: The largest thickness of a line, as a share of the picture's.
_MAX_THICKNESS = 0.045
#: How far from the edge of the page a line may end, as a share of the picture's longer side; strokes end inside of it.
_MAX_GAP = 0.035
#: The least mass of a part of a mark, as a share of the largest one: less is a speck.
_MIN_MASS = 0.03
#: The least size of a mark, as a share of the picture's, for which marks at the rim are left out.
_MIN_SIZE = 0.12
#: The largest mass of marks that are parts of a digit which fills the picture, as a share of its own.
_MAX_INNER = 0.3
#: The least width (or height) of a digit that is as high (or wide) as the picture, as a share of that.
_MIN_WIDTH = 0.25
#: Width of the frame of a box that a box drawn around the digit is in, as a share of its sides.
_FRAME = 0.15
#: The least size of what a frame encloses, as a share of its own.
_MIN_ENCLOSED = 0.25
_NEIGHBOURS = np.ones((3, 3), bool)


def components(mask: Mask) -> tuple[NDArray[np.int32], int]:
    """Return the labels of the connected components of a mask, `(H, W)`, and their number; diagonals connect."""
    labels = np.zeros(mask.shape, np.int32)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return labels, 0
    place = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    labels[place], number = ndimage.label(mask[place], _NEIGHBOURS)
    return labels, number


def without_lines(ink: Mask, page: Mask) -> Mask:
    """Return the ink without straight lines from edge to edge of the page: of ruled or squared paper, and of forms.

    As in the removal of staff lines from music, a pixel of a line is kept where the ink is thicker than the line, for
    there a stroke crosses it. A line that ends on the page is a stroke, such as the stem of a 4.

    Args:
        ink: The ink, `(H, W)`.
        page: The page and what is on it, `(H, W)`.
    """
    edge = ~eroded_by_cross(padded(page, 1), 1 + int(_MAX_GAP * max(ink.shape)))[1:-1, 1:-1]
    lines = _rows(ink, edge), _rows(ink.T, edge.T).T
    return ink & ~(lines[0] | lines[1])


def _rows(ink: Mask, edge: Mask) -> Mask:
    """Return the pixels of near-horizontal lines."""
    height, width = ink.shape
    none = np.zeros_like(ink)
    least = max(_MIN_LINE * width, _MIN_SHARE * height)
    if ink.any(axis=0).sum() < least:
        return none
    thickness = _runs(ink)
    thin = ink & (thickness <= max(2, _MAX_THICKNESS * max(ink.shape)))
    if thin.any(axis=0).sum() < least:
        return none
    y, x = np.nonzero(thin)
    wide = thin.copy()  # lines are not quite straight
    wide[1:] |= thin[:-1]
    wide[:-1] |= thin[1:]
    wide_y, wide_x = np.nonzero(wide)
    left = edge[wide_y, wide_x] & (wide_x < width / 2)
    right = edge[wide_y, wide_x] & (wide_x >= width / 2)
    found = np.zeros(len(x), bool)
    for slope in _SLOPES:
        offset = int(np.ceil(abs(slope) * width))
        rows = wide_y + np.rint(slope * wide_x).astype(int) + offset
        counts, *ends = (
            np.bincount(some, minlength=height + 2 * offset + 1) for some in (rows, rows[left], rows[right])
        )
        is_line = (counts >= least) & (ends[0] > 0) & (ends[1] > 0)
        found |= is_line[y + np.rint(slope * x).astype(int) + offset]
    if not found.any():
        return none
    none[y[found], x[found]] = True
    limit = np.median(thickness[none]) + 2
    return none & (thickness <= limit)


def _runs(ink: Mask) -> NDArray[np.int64]:
    """Return the length of the vertical run of ink that each pixel is in, 0 for no ink."""
    padded = np.zeros((ink.shape[0] + 2, ink.shape[1]), np.int8)
    padded[1:-1] = ink
    step = np.diff(padded, axis=0).T  # columns one after the other
    starts, ends = np.flatnonzero(step == 1), np.flatnonzero(step == -1)
    lengths = np.zeros(ink.T.shape, np.int64)
    lengths[ink.T] = np.repeat(ends - starts, ends - starts)
    return lengths.T


class Box(NamedTuple):
    """The bounding box of a mark."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> int:
        """The longer side."""
        return max(self.bottom - self.top, self.right - self.left)

    def gap(self, other: "Box") -> int:
        """Return the distance between two boxes along the axis along which they are farther apart."""
        return max(
            other.left - self.right, self.left - other.right, other.top - self.bottom, self.top - other.bottom, 0
        )

    def encloses(self, other: "Box") -> bool:
        """Whether the other box is inside of this one."""
        return (
            self.top < other.top and self.left < other.left and self.bottom > other.bottom and self.right > other.right
        )

    def united(self, other: "Box") -> "Box":
        """Return the box around both."""
        return Box(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )


class Marks(NamedTuple):
    """The main mark on a page.

    Attributes:
        mask: Its pixels.
        others: How many marks of similar size are beside it.
    """

    mask: Mask
    others: int


def main_mark(ink: Mask, weight: NDArray[np.float32]) -> Marks:
    """Return the largest connected component together with those that belong to it, without specks and far marks."""
    ink = _without_frames(ink)
    labels, number = components(dilated(ink))
    labels[~ink] = 0
    masses = np.bincount(labels[ink], weight[ink], minlength=number + 1)
    least = _MIN_MASS * masses[1:].max()
    boxes = {label: box for label, box in _boxes(labels).items() if masses[label] >= least}
    inner = {label: box for label, box in boxes.items() if not _on_rim(box, ink.shape)}
    spanning = [label for label, box in boxes.items() if _spans(box, ink.shape)]
    if spanning and all(masses[label] < _MAX_INNER * masses[spanning].max() for label in inner):
        inner = {}  # a digit that fills the picture, and parts of it
    if any(box.size > _MIN_SIZE * max(ink.shape) for box in inner.values()):
        boxes = inner
    main = max(boxes, key=lambda label: masses[label])
    group, box = {main}, boxes[main]
    rest = {label for label in boxes if label != main}

    def similar(label: int) -> bool:
        return boxes[label].size > 0.5 * boxes[main].size and masses[label] > 0.25 * masses[main]

    while near := {n for n in rest if boxes[n].gap(box) <= (0.1 if similar(n) else 0.25) * boxes[main].size}:
        group |= near
        rest -= near
        for label in near:
            box = box.united(boxes[label])
    chosen = np.zeros(number + 1, bool)
    chosen[list(group)] = True
    return Marks(chosen[labels], sum(map(similar, rest)))


def _boxes(labels: NDArray[np.int32]) -> dict[int, Box]:
    """Return the bounding box of each label."""
    places = ndimage.find_objects(labels)
    return {
        label: Box(place[0].start, place[1].start, place[0].stop, place[1].stop)
        for label, place in enumerate(places, 1)
        if place is not None
    }


def _without_frames(ink: Mask) -> Mask:
    """Return the ink without boxes and circles that are drawn around other marks, and do not touch them."""
    labels, number = components(ink)
    if number == 1:
        return ink
    boxes = _boxes(labels)
    frames = [
        label
        for label, box in boxes.items()
        if box.size > _MIN_SIZE * max(ink.shape)
        and any(box.encloses(other) and other.size > _MIN_ENCLOSED * box.size for other in boxes.values())
        and _is_frame(labels[box.top : box.bottom, box.left : box.right] == label)
    ]
    return ink & ~np.isin(labels, frames) if frames else ink


def _is_frame(mark: Mask) -> bool:
    """Whether the pixels of a mark are at the sides of its box, or on an ellipse in it."""
    y, x = (max(1, round(_FRAME * length)) for length in mark.shape)
    y_axis, x_axis = (np.linspace(-1, 1, length) for length in mark.shape)
    inner = np.hypot(y_axis[:, None], x_axis) < 1 - 2 * _FRAME
    return bool(min(mark[y:-y, x:-x].sum(), (mark & inner).sum()) < 0.05 * mark.sum())


def _on_rim(box: Box, shape: tuple[int, ...]) -> bool:
    return box.top == 0 or box.left == 0 or box.bottom == shape[0] or box.right == shape[1]


def _spans(box: Box, shape: tuple[int, ...]) -> bool:
    """Whether a mark reaches from one side of the picture to the other, and is not a strip along a third one."""
    height, width = shape
    if box.top == 0 and box.bottom == height:
        return box.right - box.left > _MIN_WIDTH * width
    return box.left == 0 and box.right == width and box.bottom - box.top > _MIN_WIDTH * height
