"""What the figures share: colours, grids of images, and texts that fit."""

import io
import math
import textwrap
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike, NDArray
from PIL import Image

#: Okabe and Ito's blue and vermilion, which colour-blind readers can tell apart.
BLUE = "#0072B2"
VERMILION = "#D55E00"
#: Height of a line of a title, in inches.
LINE = 0.22
#: Characters of a title that fit over an image.
TITLE_WIDTH = 22

_SIDE = 2.2  # of an image, in inches
_DPI = 100  # pixels per inch of a figure as PNG
_GAP = 0.1  # between tiles, as a share of a tile


def new_figure(**options: Any) -> Figure:
    """Return an empty figure, which a notebook shows: by itself, matplotlib has it so for figures of pyplot only.

    Args:
        options: Those of matplotlib's `Figure`.
    """
    figure = Figure(**options)
    figure._repr_png_ = partial(png, figure)  # type: ignore[attr-defined]  # IPython asks for it
    return figure


def png(figure: Figure, dpi: int = _DPI, **options: Any) -> bytes:
    """Return a figure as a PNG file.

    Args:
        figure: The figure.
        dpi: Pixels per inch.
        options: More options of `Figure.savefig`.
    """
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, **options)
    return file.getvalue()


def from_png(content: bytes) -> Figure:
    """Return a figure that shows a PNG file, and nothing else."""
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    height, width = pixels.shape[:2]
    figure = new_figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(pixels, aspect="auto", interpolation="none")
    return figure


def grid(heading: str, titles: list[str], margin: float = 0.0, images_per_cell: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure with a cell for each title: four images in a row or, of many, about a square.

    Args:
        heading: Title of the figure.
        titles: Titles of the cells.
        margin: Width to be left on the right, in inches.
        images_per_cell: Images side by side in a cell.
    """
    columns = min(len(titles), max(4 // images_per_cell, math.isqrt(len(titles) // images_per_cell)))
    rows = math.ceil(len(titles) / columns)
    lines = 1 + max(title.count("\n") for title in titles)
    width = max(images_per_cell * columns, 2)  # in images; the heading is wider than one
    size = (_SIDE * width + margin, rows * (_SIDE + (lines + 0.5) * LINE) + 2 * LINE)
    figure = new_figure(figsize=size, layout="compressed")
    figure.suptitle(textwrap.fill(heading, width * TITLE_WIDTH))
    places: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in places[len(titles) :]:
        axes.remove()
    cells = places[: len(titles)]
    for axes, title in zip(cells, titles, strict=True):
        axes.set_title(title, parse_math=False)
        axes.set(xticks=[], yticks=[])
    return figure, cells


def tile(axes: Axes, images: Sequence[NDArray[Any]] | NDArray[Any], columns: int, **style: Any) -> AxesImage:
    """Draw images of any size in rows of equal squares, each as large as fits into its square; return the last."""
    rows, pitch = math.ceil(len(images) / columns), 1 + _GAP
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        x, y = (column + 0.5) * pitch, (row + 0.5) * pitch
        height, width = np.array(image.shape[:2]) / max(image.shape[:2]) / 2
        shown = axes.imshow(image, extent=(x - width, x + width, y + height, y - height), **style)
    axes.set(xlim=(0, columns * pitch), ylim=(rows * pitch, 0), xticks=[], yticks=[], anchor="W")
    axes.spines[:].set_visible(False)
    return shown


def require_images(images: ArrayLike, what: str = "images", shape: str = "(N, H, W)") -> NDArray[Any]:
    """Return the images as an array; of the shape `(N, H, W)`, they may also be RGB, `(N, H, W, 3)`.

    Raises:
        ValueError: If they have another shape, or there are none.
    """
    pixels = np.asarray(images)
    is_colour = pixels.ndim == 4 and pixels.shape[3] == 3 and shape == "(N, H, W)"
    if not (pixels.ndim == 3 or is_colour) or pixels.size == 0:
        raise ValueError(f"{what} must have the shape {shape} and not be empty, got {pixels.shape}")
    return pixels


def channels_last(images: NDArray[Any]) -> NDArray[Any]:
    """Return images `(N, C, H, W)` as they are drawn: RGB `(N, H, W, 3)`, or else the first channel, `(N, H, W)`."""
    return np.moveaxis(images, 1, -1) if images.shape[1] == 3 else images[:, 0]


def shorten(text: str, length: int = TITLE_WIDTH) -> str:
    """Return the text, or its start and end if it is too long: file extensions and numbers of runs stay."""
    half = (length - 1) // 2
    return text if len(text) <= length else f"{text[:half]}…{text[-half:]}"
