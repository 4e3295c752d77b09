"""Figures of curves: the history of a run, the histories of several, and calibration."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from lightning_cnn.plots.evaluation import Calibration
from lightning_cnn.plots.style import BLUE, LINE, VERMILION, new_figure, shorten

# For many runs, the other colours of Okabe and Ito too, with a marker each; grey instead of yellow, too pale on white.
_COLORS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("solid", "dashed", "dotted", "dashdot")
_LARGEST = 1e30  # value of a curve
_RUN_WIDTH = 36  # characters of the name of a run
#: The curves of a run, in the order of their panels.
_PANELS = {
    "train_loss": "Training loss",
    "val_loss": "Validation loss",
    "train_acc": "Training accuracy",
    "val_acc": "Validation accuracy",
}


def history(
    train_loss: ArrayLike,
    train_acc: ArrayLike,
    val_loss: ArrayLike,
    val_acc: ArrayLike,
    epochs: ArrayLike | None = None,
) -> Figure:
    """Draw loss and accuracy over the epochs: training on the left and validation on the right, on common scales.

    Args:
        train_loss: Mean loss of each epoch, `(E,)`; NaN where it was not logged, as in all of these.
        train_acc: Accuracy of each epoch, `(E,)`, 0 to 1; drawn in percent.
        val_loss: Validation loss after each epoch, `(E,)`.
        val_acc: Validation accuracy after each epoch, `(E,)`, 0 to 1; drawn in percent.
        epochs: Their numbers, `(E,)`, ascending; None for 1 to E.

    Raises:
        ValueError: If there is no epoch, or the lengths differ.
    """
    run = {"train_loss": train_loss, "train_acc": train_acc, "val_loss": val_loss, "val_acc": val_acc}
    return _history(run if epochs is None else {**run, "epochs": epochs}, columns=2)


def stacked_history(run: Mapping[str, ArrayLike]) -> Figure:
    """Draw the same with all four curves below each other, for narrow screens.

    Args:
        run: `train_loss`, `train_acc`, `val_loss`, `val_acc` and perhaps `epochs`, as `history` takes them.

    Raises:
        ValueError: If there is no epoch, or the lengths differ.
    """
    return _history(run, columns=1)


def _history(run: Mapping[str, ArrayLike], columns: int) -> Figure:
    curves = _curves(run)
    figure = _panels([curves], columns=columns)
    for axes, curve in zip(figure.axes, _PANELS, strict=True):
        form = "last: {:.2f} %" if curve.endswith("acc") else "last: {:.4f}"
        last = _last(curves[curve])
        axes.set_title("not logged" if math.isnan(last) else form.format(last), loc="right")
    return figure


def comparison(runs: Mapping[str, Mapping[str, ArrayLike]]) -> Figure:
    """Draw the curves of several runs over each other, with a legend from the best run to the worst.

    Args:
        runs: For the name of each run its `train_loss`, `train_acc`, `val_loss`, `val_acc` and perhaps `epochs`, as
            `history` takes them; the number of epochs may differ from run to run.

    Raises:
        ValueError: If there is no run, a curve is missing, or those of a run do not have one length.
    """
    if not runs:
        raise ValueError("runs must have at least one run, got none")
    curves = {name: _curves(run, f"of run {name!r}, ") for name, run in runs.items()}
    accuracy = {name: _last(run["val_acc"]) for name, run in curves.items()}
    order = sorted(curves, key=lambda name: (math.isnan(accuracy[name]), -accuracy[name]))
    figure = _panels([curves[name] for name in order], height=6.5 + (math.ceil(len(order) / 2) + 2) * LINE)
    values = ["not logged" if math.isnan(accuracy[name]) else f"{accuracy[name]:.2f} %" for name in order]
    legend = figure.legend(
        figure.axes[0].lines,
        [f"{value}  {shorten(name, _RUN_WIDTH)}" for value, name in zip(values, order, strict=True)],
        title="last validation accuracy, best first",
        loc="outside lower center",
        ncols=2,
        fontsize=9,
        handlelength=3.5,  # long enough to tell dashes from dots
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def calibration(result: Calibration) -> Figure:
    """Draw accuracy over confidence, and the number of images in each bin of confidence.

    The bars of a perfectly calibrated model end on the diagonal; the lines from it to the points are the distances
    whose mean is the expected calibration error.

    Args:
        result: The calibration.

    Raises:
        ValueError: If there are no images.
    """
    filled = result.images > 0
    if not filled.any():
        raise ValueError("the calibration must be that of at least one image, got none")
    left, widths = result.edges[:-1][filled], np.diff(result.edges)[filled]
    accuracy, confidence = result.accuracy[filled], result.confidence[filled]
    figure = new_figure(figsize=(5.5, 6.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    upper.set_title(f"Expected calibration error: {100 * result.error:.2f} %")
    upper.bar(left, accuracy, widths, align="edge", color=BLUE, alpha=0.35, edgecolor="white")
    upper.plot([0, 1], [0, 1], color="black", linestyle="dashed", linewidth=1, label="accuracy = confidence")
    upper.vlines(confidence, confidence, accuracy, color=VERMILION, linewidth=2)
    upper.plot(confidence, accuracy, "o", color=VERMILION, clip_on=False, label="mean of the images in a bin")
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    figure.legend(loc="outside lower center", ncols=2)
    lower.bar(left, result.images[filled], widths, align="edge", color="0.5", edgecolor="white")
    lower.set(yscale="log", ylim=(0.5, None), xlabel="confidence", ylabel="images")
    lower.yaxis.set_major_formatter("{x:,.0f}")
    lower.minorticks_off()
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
    return figure


def _curves(run: Mapping[str, ArrayLike], whose: str = "") -> dict[str, NDArray[np.float64]]:
    """Return the four curves of a run, accuracy in percent, and the numbers of its epochs."""
    if missing := _PANELS.keys() - run.keys():
        raise ValueError(f"{whose}the curves {', '.join(sorted(missing))} are missing")
    curves = {curve: _drawable(np.asarray(run[curve], dtype=np.float64)) for curve in _PANELS}
    curves["epochs"] = np.asarray(run.get("epochs", np.arange(1, curves["val_acc"].size + 1)), dtype=np.float64)
    shapes = [curve.shape for curve in curves.values()]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1 or shapes[0] == (0,):
        raise ValueError(f"{whose}the four curves must have one shape (E,) with at least one epoch, got {shapes}")
    return {curve: 100 * values if curve.endswith("acc") else values for curve, values in curves.items()}


def _drawable(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values without infinite and very large ones of a run that has diverged: matplotlib overflows."""
    return np.where(np.abs(values) < _LARGEST, values, np.nan)


def _last(curve: NDArray[np.float64]) -> float:
    """Return the last value that was logged, or NaN."""
    logged = curve[~np.isnan(curve)]
    return float(logged[-1]) if len(logged) else math.nan


def _panels(runs: Sequence[Mapping[str, NDArray[np.float64]]], height: float = 6.5, columns: int = 2) -> Figure:
    """Draw training and validation, loss first and then accuracy, with a line for each run."""
    figure = new_figure(figsize=(9.5, height) if columns == 2 else (4.2, 1.7 * height), layout="constrained")
    grid = figure.subplots(4 // columns, columns, sharex=True).reshape(2, 2)
    for (training, validation), label in zip(grid, ("loss", "accuracy in %"), strict=True):
        validation.sharey(training)
        training.set_ylabel(label)
    last_epoch = max(run["epochs"][-1] for run in runs)
    for axes, (curve, title) in zip(grid.flat, _PANELS.items(), strict=True):
        for number, run in enumerate(runs):
            _draw_curve(axes, run["epochs"], run[curve], number)
        axes.set_title(title, loc="left")
        axes.set_xlabel("epoch")
        axes.set_xlim(0.5, last_epoch + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        axes.tick_params(labelbottom=True, labelleft=True)
        axes.grid(alpha=0.3)
    return figure


def _draw_curve(axes: Axes, epochs: NDArray[np.float64], values: NDArray[np.float64], number: int) -> None:
    """Draw the curve of a run; those of the first runs, which are the best, lie on top."""
    logged = ~np.isnan(values)
    turn, color = divmod(number, len(_COLORS))
    axes.plot(
        epochs[logged],
        values[logged],
        color=_COLORS[color],
        marker=_MARKERS[(color + turn) % len(_MARKERS)],
        markersize=5,
        linestyle=_LINES[turn % len(_LINES)],
        zorder=3 - number / 1000,
    )
