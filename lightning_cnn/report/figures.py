"""The figures embedded in a page: drawn as SVG, sharp at any size, or taken from the PNG files of a run."""

import base64
import io
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

import matplotlib
from matplotlib.figure import Figure

from lightning_cnn.history import MAX_POINTS
from lightning_cnn.plots import figures as plots
from lightning_cnn.plots.evaluation import Predictions
from lightning_cnn.plots.style import from_png, png
from lightning_cnn.report.summary import RunSummary
from lightning_cnn.report.template import count, percent
from lightning_cnn.text import printable

#: With more classes the cells of a confusion matrix cannot be read.
MAX_CLASSES = 50
_PIXELS_PER_INCH = 96  # of CSS
#: A larger SVG, in bytes, is embedded as PNG, so that the page opens at once and can be sent by mail.
_MAX_SVG = 400_000
_PNG_DPI = 150
#: How many epochs of each run a comparison shows at least.
_LEAST_POINTS = 50


@dataclass(frozen=True)
class EmbeddedImage:
    """An image embedded in a page.

    Attributes:
        source: A data URI.
        width: Its natural width, in pixels.
        height: Its natural height, in pixels.
        alt: A description of the image.
        narrow: The source of an image with the same content for narrow screens, if there is one.
    """

    source: str
    width: int
    height: int
    alt: str
    narrow: str | None = None


def figures_of(run: RunSummary) -> dict[str, Figure]:
    """Return the figures of a run by name, those that can be drawn, and those of its PNG files."""
    found: dict[str, Figure] = {}
    if len(run.history):
        found["history"] = plots.history(**run.history.thinned().curves())
    if run.test is not None and (predictions := run.test.predictions) is not None:
        if len(predictions.class_names) <= MAX_CLASSES:
            found["confusion_matrix"] = _confusion_matrix(predictions)
        found["calibration"] = plots.calibration(predictions.calibration)
    return found | {name: from_png(content) for name, content in run.figures.items()}


def history(run: RunSummary) -> EmbeddedImage | None:
    """Draw loss and accuracy over the epochs; None if nothing was logged."""
    if not len(run.history):
        return None
    accuracy = percent(run.at_best("val/acc"))
    best = f"; best epoch {run.best_epoch}, validation accuracy {accuracy}" if run.best_epoch else ""
    alt = f"Curves of loss and accuracy over {count(len(run.history), 'epoch')}{best}."
    curves = run.history.thinned().curves()
    return replace(_draw(plots.history(**curves), alt), narrow=_source(plots.stacked_history(curves)))


def confusion_matrix(predictions: Predictions) -> EmbeddedImage | None:
    """Draw the confusion matrix; None if there are more classes than can be read."""
    names = [printable(name) for name in predictions.class_names]
    if len(names) > MAX_CLASSES:
        return None
    name, worst = max(zip(names, predictions.per_class, strict=True), key=lambda row: row[1].confusions)
    mistake = f"most often {name} was predicted as {names[worst.confused_with]}, {count(worst.confusions, 'time')}"
    return _draw(
        _confusion_matrix(predictions),
        f"Confusion matrix of {count(len(names), 'class', 'classes')}: "
        f"{mistake if worst.confusions else 'no mistakes'}.",
    )


def _confusion_matrix(predictions: Predictions) -> Figure:
    names = [printable(name) for name in predictions.class_names]
    return plots.confusion_matrix(predictions.confusion_matrix, names, "Test images")


def calibration(predictions: Predictions) -> EmbeddedImage:
    """Draw accuracy over confidence."""
    result = predictions.calibration
    return _draw(
        plots.calibration(result),
        f"Accuracy over confidence in {len(result.images)} bins: expected calibration error {percent(result.error)}.",
    )


def comparison(runs: Mapping[str, RunSummary]) -> EmbeddedImage | None:
    """Draw the curves of several runs over each other; None if nothing was logged in any of them."""
    histories = {label: run.history for label, run in runs.items() if len(run.history)}
    if not histories:
        return None
    points = max(_LEAST_POINTS, MAX_POINTS // len(histories))
    curves = {label: history.thinned(points).curves() for label, history in histories.items()}
    return _draw(
        plots.comparison(curves), f"Curves of loss and accuracy of {count(len(curves), 'run')} over each other."
    )


def embed_png(content: bytes, alt: str) -> EmbeddedImage:
    """Embed a PNG file as it is."""
    width, height = struct.unpack(">II", content[16:24])  # in the header of every PNG file
    return EmbeddedImage(_data_uri("image/png", content), width, height, alt)


def _draw(figure: Figure, alt: str) -> EmbeddedImage:
    width, height = (round(inches * _PIXELS_PER_INCH) for inches in figure.get_size_inches())
    return EmbeddedImage(_source(figure), width, height, alt)


def _source(figure: Figure) -> str:
    if len(svg := _svg(figure)) <= _MAX_SVG:
        return _data_uri("image/svg+xml", svg)
    return _data_uri("image/png", png(figure, dpi=_PNG_DPI))


def _svg(figure: Figure) -> bytes:
    file = io.StringIO()
    # Neither the date nor random names of elements: the same run gives the same page.
    with matplotlib.rc_context({"svg.hashsalt": "lightning-cnn"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return re.sub(r'(?<= d=")[^"]*', _rounded, file.getvalue()).encode()


def _rounded(path: re.Match[str]) -> str:
    """Return an outline in hundredths of a point instead of millionths: a third of the size."""
    return " ".join(re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", path[0]).split())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
