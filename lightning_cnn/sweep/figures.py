"""The pictures of a sweep, drawn from plain arrays.

Accuracy has a scale on which the error is logarithmic: from 98 to 99 % is as far as from 80 to 90 %, and trials that
learned nothing do not press the others into one line.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike, NDArray

# Okabe and Ito's blue and vermilion, which the colour-blind tell apart; the markers differ as well.
_BLUE = "#0072B2"
_VERMILION = "#D55E00"

#: In percent: what has no error at all has a place on a logarithmic scale nevertheless.
_SMALLEST_ERROR = 0.01
_ACROSS = 3
_WORDS_WIDTH = 35  # characters that fit below a panel


@dataclass(frozen=True)
class Setting:
    """What trials had for one setting.

    Attributes:
        values: One for each trial, `(T,)`: numbers, or words where there is no order; None where it had no part.
        is_log: Whether numbers were drawn on a logarithmic scale.
    """

    values: Sequence[float | str | None]
    is_log: bool = False


def history(numbers: ArrayLike, accuracy: ArrayLike, pruned: ArrayLike) -> Figure:
    """Draw the accuracy of each trial in order, and the best until then.

    Args:
        numbers: Number of each trial, `(T,)`, in ascending order.
        accuracy: Highest validation accuracy of each trial, `(T,)`, 0 to 1; NaN where none was measured.
        pruned: Whether each trial was stopped early, `(T,)`.
    """
    x, errors, is_pruned = np.asarray(numbers), _errors(accuracy), np.asarray(pruned, dtype=bool)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    _draw_trials(axes, x, errors, is_pruned)
    complete = np.where(is_pruned | np.isnan(errors), np.inf, errors)
    best = np.minimum.accumulate(complete)
    axes.step(x, np.where(np.isinf(best), np.nan, best), where="post", color="black", zorder=1, label="best until then")
    _scale(axes)
    axes.set_title("Validation accuracy of each trial", loc="left")
    axes.set(xlabel="trial", ylabel="val/acc in %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def settings(values: Mapping[str, Setting], accuracy: ArrayLike, pruned: ArrayLike) -> Figure:
    """Draw accuracy over each setting.

    Args:
        values: At least one setting, by its name.
        accuracy: Highest validation accuracy of each trial, `(T,)`, 0 to 1; NaN where none was measured.
        pruned: Whether each trial was stopped early, `(T,)`.
    """
    errors, is_pruned = _errors(accuracy), np.asarray(pruned, dtype=bool)
    columns = min(len(values), _ACROSS)
    rows = math.ceil(len(values) / columns)
    figure = Figure(figsize=(max(3.6 * columns, 5), 3.2 * rows + 0.8), layout="constrained")
    figure.suptitle("Validation accuracy over each setting")
    panels = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for axes in panels[len(values) :]:
        axes.remove()
    for axes, (name, setting) in zip(panels, values.items(), strict=False):
        _draw_trials(axes, _places(axes, setting), errors, is_pruned)
        axes.set_xlabel(name, parse_math=False)
    _scale(panels[0])  # which all share
    for axes in panels[: len(values) : columns]:
        axes.set_ylabel("val/acc in %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def importance(shares: Mapping[str, float], trials: int) -> Figure:
    """Draw the importance of each setting.

    Args:
        shares: Importance of at least one setting, by its name, 0 to 1.
        trials: How many trials it was told from.
    """
    names = sorted(shares, key=lambda name: shares[name])
    percent = [100 * shares[name] for name in names]
    figure = Figure(figsize=(7, 0.4 * len(names) + 1.4), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(range(len(names)), percent, color=_BLUE)
    axes.bar_label(bars, fmt="{:.0f} %", padding=3)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set(xlim=(0, 110), xlabel="share in % (PED-ANOVA)")
    axes.set_title(f"What sets the best quarter of {trials} trials apart", loc="left")
    axes.set_axisbelow(True)
    axes.grid(axis="x", alpha=0.3)
    return figure


def _errors(accuracy: ArrayLike) -> NDArray[np.float64]:
    """Errors in percent, NaN where nothing was measured."""
    return np.maximum(100 * (1 - np.asarray(accuracy, dtype=np.float64)), _SMALLEST_ERROR)


def _draw_trials(axes: Axes, x: NDArray[Any], errors: NDArray[np.float64], pruned: NDArray[np.bool_]) -> None:
    axes.plot(x[~pruned], errors[~pruned], "o", color=_BLUE, alpha=0.8, label="complete")
    if pruned.any():
        axes.plot(x[pruned], errors[pruned], "x", color=_VERMILION, label="pruned: best until it was stopped")
    axes.grid(alpha=0.3)


def _scale(axes: Axes) -> None:
    """Let errors fall upwards on a logarithmic scale, and call them by their accuracy."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda error, _: f"{100 - error:.6g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.invert_yaxis()


def _places(axes: Axes, setting: Setting) -> NDArray[np.float64]:
    """Where each trial stands on the axis of a setting, which is prepared for it; NaN where the setting had no part."""
    words = sorted({value for value in setting.values if isinstance(value, str)})
    if words:
        slant: dict[str, Any] = {"rotation": 20, "ha": "right"} if sum(map(len, words)) > _WORDS_WIDTH else {}
        axes.set_xticks(range(len(words)), words, parse_math=False, **slant)
        axes.set_xlim(-0.5, len(words) - 0.5)
        return np.array([math.nan if value is None else words.index(str(value)) for value in setting.values])
    if setting.is_log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    return np.array([math.nan if value is None else float(value) for value in setting.values])
