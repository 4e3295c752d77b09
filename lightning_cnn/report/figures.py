"""The pictures of a page: drawn as SVG, sharp at any size, or taken from a run's PNG files; all inside the page."""

import base64
import io
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure

from lightning_cnn.plots import images as plots
from lightning_cnn.report.predictions import Predictions
from lightning_cnn.report.summary import Run
from lightning_cnn.report.words import count, percent

#: With more classes than this the cells of a confusion matrix cannot be read, and its picture would be large.
MAX_CLASSES = 50
_PIXELS_PER_INCH = 96  # of CSS
#: A larger SVG, in bytes, is drawn as PNG: a page shall be opened at once, and sent by mail.
_MAX_SVG = 400_000
_PNG_DPI = 150


@dataclass(frozen=True)
class Picture:
    """A picture as a page holds it.

    Attributes:
        source: A data URI.
        width: Its natural width, in pixels.
        height: Its natural height, in pixels.
        alt: What it shows, for those who do not see it.
    """

    source: str
    width: int
    height: int
    alt: str


def history(run: Run) -> Picture | None:
    """Draw loss and accuracy over the epochs; None if nothing was measured."""
    if not run.curves:
        return None
    best = f"; best validation accuracy {percent(run.best_val_acc)} in epoch {run.best_epoch}" if run.best_epoch else ""
    return _draw(plots.history(**run.curves), f"Curves of loss and accuracy over {count(run.epochs, 'epoch')}{best}.")


def confusion_matrix(predictions: Predictions) -> Picture | None:
    """Draw the confusion matrix; None with more classes than can be read."""
    names = predictions.class_names
    if len(names) > MAX_CLASSES:
        return None
    worst = max(predictions.class_rows(), key=lambda row: row.times)
    mistake = f"most often {worst.name} was taken for {worst.taken_for}, {count(worst.times, 'time')}"
    return _draw(
        plots.confusion_matrix(predictions.confusion, names, "Test images"),
        f"Confusion matrix of {count(len(names), 'class', 'classes')}: {mistake if worst.times else 'no mistakes'}.",
    )


def calibration(predictions: Predictions) -> Picture:
    """Draw the calibration."""
    result = predictions.calibration
    return _draw(
        plots.calibration(result),
        f"Accuracy over confidence in {len(result.images)} bins: expected calibration error {percent(result.error)}.",
    )


def comparison(runs: Mapping[str, Run]) -> Picture | None:
    """Draw the curves of several runs over each other; None if nothing was measured in any."""
    curves = {label: run.curves for label, run in runs.items() if run.curves}
    if not curves:
        return None
    accuracies = [run.best_val_acc for run in runs.values() if run.best_epoch]
    best = f"; the best validation accuracy is {percent(max(accuracies))}" if accuracies else ""
    return _draw(
        plots.comparison(curves), f"Curves of loss and accuracy of {count(len(curves), 'run')} over each other{best}."
    )


def png(content: bytes, alt: str) -> Picture:
    """Take a PNG file as it is."""
    width, height = struct.unpack(">II", content[16:24])  # where every PNG has them
    return Picture(_data_uri("image/png", content), width, height, alt)


def _draw(figure: Figure, alt: str) -> Picture:
    width, height = (round(inches * _PIXELS_PER_INCH) for inches in figure.get_size_inches())
    source = _data_uri("image/svg+xml", svg) if len(svg := _svg(figure)) <= _MAX_SVG else _png(figure)
    return Picture(source, width, height, alt)


def _svg(figure: Figure) -> bytes:
    file = io.StringIO()
    # Neither the date nor random names of parts: the same run makes the same page.
    with matplotlib.rc_context({"svg.hashsalt": "lightning-cnn"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return re.sub(r'(?<= d=")[^"]*', _rounded, file.getvalue()).encode()


def _rounded(path: re.Match[str]) -> str:
    """The outline in hundredths of a point instead of millionths, which takes two thirds of the space."""
    return " ".join(re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", path[0]).split())


def _png(figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_PNG_DPI)
    return _data_uri("image/png", file.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
