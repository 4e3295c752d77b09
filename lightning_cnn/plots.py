"""The pictures of a run, drawn from plain arrays.

Figures are made without pyplot: there is no global state, no window and no backend to choose.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

# Okabe and Ito's blue and vermilion, which the colour-blind tell apart; black and white printers have the words.
_BLUE = "#0072B2"
_VERMILION = "#D55E00"

_SIDE = 2.2  # of an image, in inches
_LINE = 0.22  # height of a line of a title, in inches
_TITLE_WIDTH = 22  # characters of a title that fit over an image


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
    curves = [np.asarray(curve, dtype=np.float64) for curve in (train_loss, train_acc, val_loss, val_acc)]
    shapes = [curve.shape for curve in curves]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or shapes[0] == (0,):
        raise ValueError(f"the four curves must have one shape (E,) with at least one epoch, got {shapes}")
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    (left_loss, right_loss), (left_acc, right_acc) = figure.subplots(2, 2, sharex=True, sharey="row")
    _draw_curve(left_loss, "Training loss", curves[0], "{:.4f}")
    _draw_curve(left_acc, "Training accuracy", 100 * curves[1], "{:.2f} %")
    _draw_curve(right_loss, "Validation loss", curves[2], "{:.4f}")
    _draw_curve(right_acc, "Validation accuracy", 100 * curves[3], "{:.2f} %")
    left_loss.set_ylabel("cross-entropy")
    left_acc.set_ylabel("accuracy in %")
    return figure


def _draw_curve(axes: Axes, title: str, values: NDArray[np.float64], form: str) -> None:
    """One curve, with its last value in words."""
    measured = ~np.isnan(values)
    epochs = np.arange(1, len(values) + 1)[measured]
    axes.plot(epochs, values[measured], color=_BLUE, marker="o", markersize=5)
    axes.set_title(title, loc="left")
    axes.set_title(f"last: {form.format(values[measured][-1])}" if len(epochs) else "not measured", loc="right")
    axes.set_xlabel("epoch")
    axes.set_xlim(0.5, len(values) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.tick_params(labelbottom=True, labelleft=True)
    axes.grid(alpha=0.3)


def _grid(heading: str, titles: list[str], margin: float = 0.0) -> tuple[Figure, list[Axes]]:
    """A figure with a place for an image under each title, in rows of four or, with many, as wide as high."""
    columns = min(len(titles), max(4, math.isqrt(len(titles))))
    rows = math.ceil(len(titles) / columns)
    lines = 1 + max(title.count("\n") for title in titles)
    width = _SIDE * max(columns, 2)  # the heading is wider than one image
    figure = Figure(figsize=(width + margin, rows * (_SIDE + (lines + 0.5) * _LINE) + 2 * _LINE), layout="compressed")
    figure.suptitle(_wrap(heading, columns=max(columns, 2)))
    places: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in places[len(titles) :]:
        axes.remove()
    cells = places[: len(titles)]
    for axes, title in zip(cells, titles, strict=True):
        axes.set_title(title, parse_math=False)
        axes.set_xticks([])
        axes.set_yticks([])
    return figure, cells


def _images(images: ArrayLike) -> NDArray[Any]:
    pixels = np.asarray(images)
    if pixels.ndim != 3 or pixels.size == 0:
        raise ValueError(f"images must have the shape (N, H, W) with at least one image, got {pixels.shape}")
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
