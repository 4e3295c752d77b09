"""The figure of a confusion matrix.

It is drawn after a validation, so it has to be fast. The numbers in the cells are a collection of outlines: as texts,
each of which matplotlib lays out, the figure takes two to four times as long with 10 classes and ten times with 26.
Names as labels of ticks and cells as an image would take half as long again.
"""

import math
import textwrap
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D
from numpy.typing import ArrayLike, NDArray

from lightning_cnn.plots.style import LINE, new_figure, shorten

_CHARACTER = 0.1  # width of a wide character of a class name, in inches
_GAP = 0.08  # between the names and the cells, in inches
_DIGIT = 0.64  # width of a digit, as a share of the font size


def confusion_matrix(counts: ArrayLike, class_names: Sequence[str], title: str = "Confusion matrix") -> Figure:
    """Draw how many images of each class (row) were predicted as each class (column), coloured by the rate of the row.

    Up to twelve classes, cells show the rate in percent as well. Colour follows its square root, so that rare mistakes
    can be seen.

    Args:
        counts: Numbers of images, `(C, C)`.
        class_names: Names of the C classes; long ones are shortened in the middle.
        title: Title above the accuracy.

    Raises:
        ValueError: If the shape does not fit the names, a count is negative, or there are no images.
    """
    table, n = np.asarray(counts), len(class_names)
    if table.shape != (n, n) or n == 0:
        raise ValueError(
            f"counts must have a row and a column for each of the {n} classes, got the shape {table.shape}"
        )
    if table.min() < 0 or not table.any():
        raise ValueError(f"counts must be 0 or more, and not all of them 0, got {table.tolist()}")
    names = [shorten(name) for name in class_names]
    widest = _CHARACTER * max(map(len, names))
    cell = 0.8 if n <= 3 else 0.5 if n <= 12 else 0.36  # all lengths are in inches
    slanted = widest > cell
    left, bottom = widest + 0.5, 0.6 + (widest * math.sqrt(0.5) if slanted else 0)
    width = max(left + n * cell + 0.3, 3)
    heading = textwrap.fill(title, int(width / 0.11))
    heading += f"\n{100 * np.trace(table) / table.sum():.2f} % of {table.sum():,} correct"
    height = bottom + n * cell + (heading.count("\n") + 2) * LINE
    figure = new_figure(figsize=(width, height))
    figure.suptitle(heading, y=1 - LINE / 2 / height, fontsize=12, parse_math=False)
    axes = figure.add_axes((left / width, bottom / height, n * cell / width, n * cell / height))
    axes.set_axis_off()
    rates = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    edges = np.arange(n + 1) - 0.5
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    axes.pcolormesh(edges, edges, rates, cmap="Blues", norm=norm, edgecolors="white")
    axes.set_ylim(n - 0.5, -0.5)  # rows downwards
    slant: dict[str, Any] = {"ha": "right", "rotation": 45, "rotation_mode": "anchor"} if slanted else {"ha": "center"}
    write = partial(axes.text, parse_math=False)
    outside = -0.5 - _GAP / cell
    for place, name in enumerate(names):
        write(outside, place, name, ha="right", va="center_baseline")
        write(place, n - 1 - outside, name, va="top", **slant)
    figure.text(0.1 / width, (bottom + n * cell / 2) / height, "true", va="center", rotation=90)
    figure.text((left + n * cell / 2) / width, 0.1 / height, "predicted", ha="center")
    _write_cells(axes, table, rates, cell)
    return figure


def _write_cells(axes: Axes, table: NDArray[Any], rates: NDArray[np.float64], cell: float) -> None:
    """Write counts into all cells and, where there is room, rates into those that are not 0."""
    colors = np.where(rates > 0.3, "white", np.where(table > 0, "black", "0.6"))
    cells = list(np.ndindex(table.shape))
    size = min(9, 72 * (cell - 0.06) / (_DIGIT * len(f"{table.max():,}")))
    with_rates = len(table) <= 12
    lower = 0.05 if with_rates else 0.1  # than the middle, for the baseline of the counts, in cells
    _write(axes, cells, [f"{table[place]:,}" for place in cells], lower, size, colors)
    if with_rates:
        filled = [place for place in cells if table[place] > 0]
        _write(axes, filled, [f"{100 * rates[place]:.1f} %" for place in filled], 0.35, 6.5, colors)


def _write(
    axes: Axes, cells: list[tuple[int, ...]], texts: list[str], lower: float, size: float, colors: NDArray[np.str_]
) -> None:
    """Write a text into each of the cells, given as row and column."""
    written = PathCollection(
        [_outline(text) for text in texts],
        offsets=[(column, row + lower) for row, column in cells],
        offset_transform=axes.transData,
        facecolors=[colors[place] for place in cells],
        linewidths=0,
    )
    assert axes.figure is not None
    written.set_transform(Affine2D().scale(size / 72) + axes.figure.dpi_scale_trans)
    axes.add_collection(written, autolim=False)


@lru_cache(maxsize=4096)
def _outline(text: str) -> Path:
    """Return the outline of a number with font size 1, its middle at x = 0; cached, as the same numbers recur."""
    path = TextPath((0, 0), text, size=1)
    points = np.asarray(path.vertices)
    return Path(points - (np.ptp(points[:, 0]) / 2 + points[:, 0].min(), 0), path.codes)
