"""The pictures of a run, drawn from plain arrays.

Figures are made without pyplot: there is no global state, no window and no backend to choose.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.path import Path
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D
from numpy.typing import ArrayLike, NDArray

from lightning_cnn.plots.evaluation import Calibration

# Okabe and Ito's blue and vermilion, which the colour-blind tell apart; black and white printers have the words.
_BLUE = "#0072B2"
_VERMILION = "#D55E00"
# With their other colours, and a marker for each, for many runs; grey instead of their yellow, which vanishes on white.
_COLORS = (_BLUE, _VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("solid", "dashed", "dotted", "dashdot")

_SIDE = 2.2  # of an image, in inches
_LINE = 0.22  # height of a line of a title, in inches
_TITLE_WIDTH = 22  # characters of a title that fit over an image
_NAME_WIDTH = 36  # characters of the name of a run or file
_GAP = 0.1  # between tiles, as a share of one
_MAX_FILTERS = 64
_MAX_MAPS = 16
# The curves of a run, in the order of their panels.
_PANELS = {
    "train_loss": "Training loss",
    "val_loss": "Validation loss",
    "train_acc": "Training accuracy",
    "val_acc": "Validation accuracy",
}


def samples(images: ArrayLike, labels: ArrayLike, class_names: Sequence[str]) -> Figure:
    """Draw preprocessed images with their class names, all on one scale of grey.

    Args:
        images: Pixels in any range, `(N, H, W)`.
        labels: Class of each image, `(N,)`, 0 to the number of classes − 1.
        class_names: Names in the order of the labels.

    Raises:
        ValueError: If there are no images, or lengths, shapes or labels do not fit.
    """
    pixels = _images(images)
    names = _names("labels", labels, class_names, len(pixels))
    low, high = float(pixels.min()), float(pixels.max())
    figure, cells = _grid("Training images as the network sees them", [_wrap(name) for name in names], margin=1.1)
    for axes, image in zip(cells, pixels, strict=True):
        shown = axes.imshow(image, cmap="gray", vmin=low, vmax=high)
    figure.colorbar(shown, ax=cells, label="pixel value", shrink=0.8)
    return figure


def predictions(images: ArrayLike, targets: ArrayLike, predicted: ArrayLike, class_names: Sequence[str]) -> Figure:
    """Draw images with their true and predicted class names; sign, word, frame and colour tell right from wrong.

    Args:
        images: Grey values 0 to 255, `(N, H, W)`.
        targets: True class of each image, `(N,)`, 0 to the number of classes − 1.
        predicted: Predicted class of each image, likewise.
        class_names: Names in the order of the classes.

    Raises:
        ValueError: If there are no images, or lengths, shapes or classes do not fit.
    """
    pixels = _images(images)
    truths = _names("targets", targets, class_names, len(pixels))
    guesses = _names("predicted", predicted, class_names, len(pixels))
    hits = np.asarray(targets) == np.asarray(predicted)
    titles = [
        "\n".join(("✓ correct" if hit else "✗ wrong", _wrap(f"true: {truth}"), _wrap(f"predicted: {guess}")))
        for truth, guess, hit in zip(truths, guesses, hits, strict=True)
    ]
    figure, cells = _grid(f"Test images: {hits.sum()} of {len(hits)} correct", titles)
    for axes, image, hit in zip(cells, pixels, hits, strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        color = _BLUE if hit else _VERMILION
        axes.title.set_color(color)
        for spine in axes.spines.values():
            spine.set(color=color, linewidth=3, linestyle="solid" if hit else "dashed")
    return figure


def mistakes(
    images: ArrayLike, targets: ArrayLike, predicted: ArrayLike, confidence: ArrayLike, class_names: Sequence[str]
) -> Figure:
    """Draw wrongly classified images, in the order given, with what they are and what they were taken for.

    Args:
        images: Grey values 0 to 255, `(N, H, W)`, the worst mistake first.
        targets: True class of each image, `(N,)`, 0 to the number of classes − 1.
        predicted: Predicted class of each image, likewise.
        confidence: Probability of each predicted class, `(N,)`, 0 to 1, or NaN; shown in percent.
        class_names: Names in the order of the classes.

    Raises:
        ValueError: If there are no images, or lengths, shapes, classes or probabilities do not fit.
    """
    pixels = _images(images)
    truths = _names("targets", targets, class_names, len(pixels))
    guesses = _names("predicted", predicted, class_names, len(pixels))
    shares = np.asarray(confidence, dtype=np.float64)
    if shares.shape != (len(pixels),) or ((shares < 0) | (shares > 1)).any():
        raise ValueError(f"confidence must be 0 to 1 for each of the {len(pixels)} images, got {shares.tolist()}")
    titles = [
        "\n".join((_wrap(f"true: {truth}"), _wrap(f"predicted: {guess}"), f"confidence: {100 * share:.1f} %"))
        for truth, guess, share in zip(truths, guesses, shares, strict=True)
    ]
    figure, cells = _grid("The worst mistakes, highest loss first", titles)
    for axes, image in zip(cells, pixels, strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    return figure


def seen(originals: Sequence[ArrayLike], seen: ArrayLike, captions: Sequence[str]) -> Figure:
    """Draw photographs or drawings, each beside what the network saw of it.

    Args:
        originals: RGB pixels 0 to 255 of each image, `(h, w, 3)`, of any size.
        seen: Grey values 0 to 255 that the network saw, `(N, 28, 28)`.
        captions: What to say of each image, `(N,)`; lines that are too long are shortened in the middle.

    Raises:
        ValueError: If there are no images, or lengths or shapes do not fit.
    """
    pixels, rgb = _images(seen, "seen"), [np.asarray(original) for original in originals]
    if not len(rgb) == len(captions) == len(pixels):
        raise ValueError(
            f"originals and captions must be as many as the {len(pixels)} images seen, "
            f"got {len(rgb)} and {len(captions)}"
        )
    for original in rgb:
        if original.ndim != 3 or original.shape[2] != 3 or original.size == 0:
            raise ValueError(f"originals must have the shape (h, w, 3), got {original.shape}")
    titles = ["\n".join(_short(line, _NAME_WIDTH) for line in caption.splitlines()) for caption in captions]
    figure, cells = _grid("Each image, and what the network saw of it", titles, across=2)
    for axes, original, image in zip(cells, rgb, pixels, strict=True):
        axes.set_facecolor("0.93")  # white images have borders on it
        _tile(axes, [original, image], 2, cmap="gray", vmin=0, vmax=255)
    return figure


def history(train_loss: ArrayLike, train_acc: ArrayLike, val_loss: ArrayLike, val_acc: ArrayLike) -> Figure:
    """Draw loss and accuracy over the epochs: training on the left and validation on the right, on common scales.

    Args:
        train_loss: Mean loss of each epoch, `(E,)`; NaN where it was not measured, as in all of these.
        train_acc: Accuracy of each epoch, `(E,)`, 0 to 1; drawn in percent.
        val_loss: Validation loss after each epoch, `(E,)`.
        val_acc: Validation accuracy after each epoch, `(E,)`, 0 to 1; drawn in percent.

    Raises:
        ValueError: If there is no epoch, or the lengths differ.
    """
    curves = _curves({"train_loss": train_loss, "train_acc": train_acc, "val_loss": val_loss, "val_acc": val_acc})
    figure = _panels([curves])
    for axes, curve in zip(figure.axes, _PANELS, strict=True):
        form = "last: {:.2f} %" if curve.endswith("acc") else "last: {:.4f}"
        last = _last(curves[curve])
        axes.set_title("not measured" if math.isnan(last) else form.format(last), loc="right")
    return figure


def comparison(runs: Mapping[str, Mapping[str, ArrayLike]]) -> Figure:
    """Draw the curves of several runs over each other, and name the runs from the best to the worst.

    Args:
        runs: For the name of each run its `train_loss`, `train_acc`, `val_loss` and `val_acc`, as `history` takes them;
            the number of epochs may differ from run to run.

    Raises:
        ValueError: If there is no run, a curve is missing, or those of a run do not have one length.
    """
    if not runs:
        raise ValueError("runs must have at least one run, got none")
    curves = {name: _curves(run, f"of run {name!r}, ") for name, run in runs.items()}
    accuracy = {name: _last(run["val_acc"]) for name, run in curves.items()}
    order = sorted(curves, key=lambda name: (math.isnan(accuracy[name]), -accuracy[name]))
    figure = _panels([curves[name] for name in order], height=6.5 + (math.ceil(len(order) / 2) + 2) * _LINE)
    values = ["not measured" if math.isnan(accuracy[name]) else f"{accuracy[name]:.2f} %" for name in order]
    legend = figure.legend(
        figure.axes[0].lines,
        [f"{value}  {_short(name, _NAME_WIDTH)}" for value, name in zip(values, order, strict=True)],
        title="last validation accuracy, best first",
        loc="outside lower center",
        ncols=2,
        fontsize=9,
        handlelength=3.5,  # long enough to tell dashes from dots
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def confusion_matrix(counts: ArrayLike, class_names: Sequence[str], title: str = "Confusion matrix") -> Figure:
    """Draw how many images of each class (row) were taken for each class (column), coloured by the rate of the row.

    Up to twelve classes, cells show the rate in percent as well. Colour follows its square root, so that rare mistakes
    are seen. As it is drawn after every validation, it has no axes, whose ticks take longer than all the rest.

    Args:
        counts: Numbers of images, `(C, C)`, as `evaluation.confusion` returns them.
        class_names: Names of the C classes; long ones are shortened in the middle.
        title: What stands over the accuracy.

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
    names = [_short(name) for name in class_names]
    widest = max(_width(name, 10) for name in names)
    cell = 0.8 if n <= 3 else 0.5 if n <= 12 else 0.36  # all lengths are in inches
    slanted = widest > cell - 0.06
    left, bottom = widest + 0.45, 0.5 + (widest * math.sqrt(0.5) if slanted else 0)
    width = max(left + n * cell + 0.3, 3)
    heading = textwrap.fill(title, int(width / 0.11))
    heading += f"\n{100 * np.trace(table) / table.sum():.2f} % of {table.sum():,} correct"
    height = bottom + n * cell + (heading.count("\n") + 2) * _LINE
    columns, rows = left + (np.arange(n) + 0.5) * cell, bottom + (n - np.arange(n) - 0.5) * cell
    figure = Figure(figsize=(width, height))
    write = partial(figure.text, transform=figure.dpi_scale_trans, parse_math=False)
    write(width / 2, height - _LINE / 2, heading, ha="center", va="top", fontsize=12)
    write(0.1, rows.mean(), "true", va="center", rotation=90)
    write(columns.mean(), 0.1, "predicted", ha="center")
    slant = {"ha": "right", "rotation": 45, "rotation_mode": "anchor"} if slanted else {"ha": "center"}
    for name, column, row in zip(names, columns, rows, strict=True):
        write(left - 0.08, row, name, ha="right", va="center_baseline")
        write(column, bottom - 0.08, name, va="top", **slant)
    _draw_cells(figure, table, columns, rows, cell)
    return figure


def calibration(result: Calibration) -> Figure:
    """Draw accuracy over confidence, and how many images there are of each confidence.

    Where a model can be taken at its word, bars end on the diagonal; the lines from it to the points are the distances
    whose mean is the expected calibration error.

    Args:
        result: What `evaluation.calibration` returns.

    Raises:
        ValueError: If there are no images.
    """
    filled = result.images > 0
    if not filled.any():
        raise ValueError("the calibration must be that of at least one image, got none")
    left, widths = result.edges[:-1][filled], np.diff(result.edges)[filled]
    accuracy, confidence = result.accuracy[filled], result.confidence[filled]
    figure = Figure(figsize=(5.5, 6.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    upper.set_title(f"Expected calibration error: {100 * result.error:.2f} %")
    upper.bar(left, accuracy, widths, align="edge", color=_BLUE, alpha=0.35, edgecolor="white")
    upper.plot([0, 1], [0, 1], color="black", linestyle="dashed", linewidth=1, label="accuracy = confidence")
    upper.vlines(confidence, confidence, accuracy, color=_VERMILION, linewidth=2)
    upper.plot(confidence, accuracy, "o", color=_VERMILION, clip_on=False, label="mean of the images in a bin")
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    figure.legend(loc="outside lower center", ncols=2)
    lower.bar(left, result.images[filled], widths, align="edge", color="0.5", edgecolor="white")
    lower.set(yscale="log", ylim=(0.5, None), xlabel="confidence", ylabel="images")
    lower.yaxis.set_major_formatter("{x:,.0f}")
    lower.minorticks_off()
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return figure


def filters(weights: ArrayLike, title: str) -> Figure:
    """Draw the filters of a first layer, all on one scale with 0 in its middle; of many, the first 64.

    Args:
        weights: Weights of each filter, `(K, h, w)`.
        title: What stands over them.

    Raises:
        ValueError: If there are no filters, or the shape does not fit.
    """
    values = _images(weights, "weights", "(K, h, w)", "filter")
    shown = values[:_MAX_FILTERS]
    columns = min(len(shown), 8)
    rows = math.ceil(len(shown) / columns)
    if len(values) > _MAX_FILTERS:
        title = f"{title}: the first {_MAX_FILTERS} of {len(values)}"
    figure = Figure(figsize=(max(0.7 * columns, 2.8) + 1.1, 0.7 * max(rows, 2) + 0.6), layout="compressed")
    axes = figure.subplots()
    axes.set_title(textwrap.fill(title, 10 * max(columns, 3)), parse_math=False)
    limit = float(np.abs(shown).max()) or 1.0
    last = _tile(axes, shown, columns, cmap="RdBu_r", vmin=-limit, vmax=limit)
    figure.colorbar(last, ax=axes, label="weight")
    return figure


def feature_maps(image: ArrayLike, layers: Mapping[str, ArrayLike]) -> Figure:
    """Draw what layers make of an image: a row of maps for each, on a scale of grey of its own.

    Args:
        image: Pixels in any range, `(H, W)`.
        layers: For the name of each layer its maps, `(K, h, w)`; the first 16 are shown.

    Raises:
        ValueError: If there are no layers, or shapes do not fit.
    """
    pixels = np.asarray(image)
    if pixels.ndim != 2 or pixels.size == 0:
        raise ValueError(f"image must have the shape (H, W), got {pixels.shape}")
    if not layers:
        raise ValueError("layers must have at least one layer, got none")
    maps = {name: _images(values, f"layer {name!r}", "(K, h, w)", "map") for name, values in layers.items()}
    columns = min(_MAX_MAPS, max(len(values) for values in maps.values()))
    figure = Figure(figsize=(max(0.65 * columns, 5), 2.2 + 1.05 * len(maps)), layout="constrained")
    first, *others = figure.subplots(1 + len(maps), 1, height_ratios=(1.8, *[1] * len(maps)))
    first.set_title("input", loc="left")
    _tile(first, [pixels], 1, cmap="gray")
    for axes, (name, values) in zip(others, maps.items(), strict=True):
        shown = values[:_MAX_MAPS]
        _, h, w = values.shape
        title = f"{_short(name)}: {len(shown)} of {len(values)} maps, {h} × {w}"
        axes.set_title(title, loc="left", parse_math=False)
        _tile(axes, shown, columns, cmap="gray", vmin=shown.min(), vmax=shown.max())
    return figure


def _curves(run: Mapping[str, ArrayLike], whose: str = "") -> dict[str, NDArray[np.float64]]:
    """The four curves of a run, accuracy in percent."""
    if missing := _PANELS.keys() - run.keys():
        raise ValueError(f"{whose}the curves {', '.join(sorted(missing))} are missing")
    curves = {curve: np.asarray(run[curve], dtype=np.float64) for curve in _PANELS}
    shapes = [curve.shape for curve in curves.values()]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or shapes[0] == (0,):
        raise ValueError(f"{whose}the four curves must have one shape (E,) with at least one epoch, got {shapes}")
    return {curve: 100 * values if curve.endswith("acc") else values for curve, values in curves.items()}


def _last(curve: NDArray[np.float64]) -> float:
    """The last value that was measured, or NaN."""
    measured = curve[~np.isnan(curve)]
    return float(measured[-1]) if len(measured) else math.nan


def _panels(runs: Sequence[Mapping[str, NDArray[np.float64]]], height: float = 6.5) -> Figure:
    """Loss above and accuracy below, training on the left and validation on the right, with a line for each run."""
    figure = Figure(figsize=(9.5, height), layout="constrained")
    grid = figure.subplots(2, 2, sharex=True, sharey="row")
    last_epoch = max(len(run["val_acc"]) for run in runs)
    for axes, (curve, title) in zip(grid.flat, _PANELS.items(), strict=True):
        for number, run in enumerate(runs):
            _draw_curve(axes, run[curve], number)
        axes.set_title(title, loc="left")
        axes.set_xlabel("epoch")
        axes.set_xlim(0.5, last_epoch + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.tick_params(labelbottom=True, labelleft=True)
        axes.grid(alpha=0.3)
    grid[0, 0].set_ylabel("cross-entropy")
    grid[1, 0].set_ylabel("accuracy in %")
    return figure


def _draw_curve(axes: Axes, values: NDArray[np.float64], number: int) -> None:
    """The curve of a run; those of the first runs, which are the best, lie on top."""
    measured = ~np.isnan(values)
    turn, color = divmod(number, len(_COLORS))
    axes.plot(
        np.arange(1, len(values) + 1)[measured],
        values[measured],
        color=_COLORS[color],
        marker=_MARKERS[(color + turn) % len(_MARKERS)],
        markersize=5,
        linestyle=_LINES[turn % len(_LINES)],
        zorder=3 - number / 1000,
    )


def _draw_cells(figure: Figure, table: NDArray[Any], columns: NDArray[Any], rows: NDArray[Any], cell: float) -> None:
    """The cells of a confusion matrix around their middles, with the figures in them."""
    rates = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    corners = np.meshgrid(
        np.append(columns, columns[-1] + cell) - cell / 2, np.append(rows, rows[-1] - cell) + cell / 2
    )
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    mesh = QuadMesh(np.dstack(corners), array=rates, cmap="Blues", norm=norm, edgecolors="white")
    mesh.set_transform(figure.dpi_scale_trans)
    figure.add_artist(mesh)
    places = np.dstack(np.meshgrid(columns, rows)).reshape(-1, 2)
    colors = np.where(rates > 0.3, "white", np.where(table > 0, "black", "0.6")).ravel()
    size = min(9, 72 * (cell - 0.06) / _width(f"{table.max():,}", 72))
    with_rates = len(table) <= 12
    lower = 0.02 if with_rates else 0.04  # than the middle, for the baseline of the counts
    _write(figure, [f"{count:,}" for count in table.flat], places - (0, lower), size, colors)
    if with_rates:
        hit = table.ravel() > 0
        texts = [f"{100 * rate:.1f} %" for rate in rates.ravel()[hit]]
        _write(figure, texts, places[hit] - (0, 0.17), 6.5, colors[hit])


def _write(
    figure: Figure, texts: Sequence[str], places: NDArray[np.float64], size: float, colors: NDArray[np.str_]
) -> None:
    """Write a text in each place, given in inches, as outlines, which are drawn in a tenth of the time."""
    inches = figure.dpi_scale_trans
    outlines = [_outline(text) for text in texts]
    written = PathCollection(outlines, offsets=places, offset_transform=inches, facecolors=colors, linewidths=0)
    written.set_transform(Affine2D().scale(size / 72) + inches)
    figure.add_artist(written)


@lru_cache(maxsize=4096)
def _outline(text: str) -> Path:
    """The outline of a text in a font of size 1, its middle at 0; kept, as the same numbers come again and again."""
    vertices, codes = text_to_path.get_text_path(FontProperties(), text)
    points = np.reshape(vertices, (-1, 2)) / text_to_path.FONT_SCALE  # a blank has none
    x = points[:, 0]  # `Path.get_extents` is exact, and takes a hundred times as long
    return Path(points - ((x.min(initial=0) + x.max(initial=0)) / 2, 0), codes)


def _width(text: str, size: float) -> float:
    """The width of a text in inches."""
    return 2 * float(np.asarray(_outline(text).vertices)[:, 0].max(initial=0)) * size / 72


def _tile(axes: Axes, images: Sequence[NDArray[Any]] | NDArray[Any], columns: int, **style: Any) -> AxesImage:
    """Draw images of any size in rows of equal squares, each filling its square as far as its shape allows."""
    rows, pitch = math.ceil(len(images) / columns), 1 + _GAP
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        x, y = (column + 0.5) * pitch, (row + 0.5) * pitch
        height, width = np.array(image.shape[:2]) / max(image.shape[:2]) / 2
        shown = axes.imshow(image, extent=(x - width, x + width, y + height, y - height), **style)
    axes.set(xlim=(0, columns * pitch), ylim=(rows * pitch, 0), xticks=[], yticks=[], anchor="W")
    for spine in axes.spines.values():
        spine.set_visible(False)
    return shown


def _grid(heading: str, titles: list[str], margin: float = 0.0, across: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with a place for an image, or some across, under each title: four in a row or, of many, a square."""
    columns = min(len(titles), max(4 // across, math.isqrt(len(titles) // across)))
    rows = math.ceil(len(titles) / columns)
    lines = 1 + max(title.count("\n") for title in titles)
    width = max(across * columns, 2)  # in images; the heading is wider than one
    size = (_SIDE * width + margin, rows * (_SIDE + (lines + 0.5) * _LINE) + 2 * _LINE)
    figure = Figure(figsize=size, layout="compressed")
    figure.suptitle(_wrap(heading, columns=width))
    places: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in places[len(titles) :]:
        axes.remove()
    cells = places[: len(titles)]
    for axes, title in zip(cells, titles, strict=True):
        axes.set_title(title, parse_math=False)
        axes.set_xticks([])
        axes.set_yticks([])
    return figure, cells


def _images(images: ArrayLike, what: str = "images", shape: str = "(N, H, W)", one: str = "image") -> NDArray[Any]:
    pixels = np.asarray(images)
    if pixels.ndim != 3 or pixels.size == 0:
        raise ValueError(f"{what} must have the shape {shape} with at least one {one}, got {pixels.shape}")
    return pixels


def _names(what: str, labels: ArrayLike, class_names: Sequence[str], n: int) -> list[str]:
    """The class name of each of n labels."""
    numbers = np.asarray(labels)
    if numbers.shape != (n,):
        raise ValueError(f"{what} must have one entry for each of the {n} images, got the shape {numbers.shape}")
    if numbers.min() < 0 or numbers.max() >= len(class_names):
        raise ValueError(f"{what} must be between 0 and {len(class_names) - 1}, got {numbers.tolist()}")
    return [class_names[number] for number in numbers]


def _wrap(text: str, columns: int = 1) -> str:
    """The text in lines that fit over as many images side by side."""
    return textwrap.fill(text, columns * _TITLE_WIDTH)


def _short(text: str, length: int = _TITLE_WIDTH) -> str:
    """The text, or its start and end if it is too long; endings of file names and numbers of runs stay."""
    half = (length - 1) // 2
    return text if len(text) <= length else f"{text[:half]}…{text[-half:]}"
