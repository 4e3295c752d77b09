"""The output of predictions: a table on stdout, a CSV or JSON file, or a figure."""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from lightning_cnn.files import atomic_write
from lightning_cnn.predict import views
from lightning_cnn.predict.prediction import Prediction
from lightning_cnn.text import printable, spreadsheet_safe, spreadsheet_safe_path

#: Writes the predictions of a batch.
Write = Callable[[Sequence[Prediction]], None]
#: The columns of a file.
_COLUMNS = ("file", "predicted", "confidence", "runner_up", "runner_up_confidence", "unclear")
#: The `output` that stands for stdout.
STDOUT = Path("-")


@contextmanager
def writer(output: Path | None, kind: str) -> Iterator[Write]:
    """Yield a function that writes predictions to stdout, or to a file, in full or not at all.

    Args:
        output: The file; `STDOUT` for stdout; None for a table there.
        kind: `csv` or `json`, unless a table is written.
    """
    if output is None:
        yield _table()
        return
    to_file = _csv if kind == "csv" else _json
    if output == STDOUT:
        if isinstance(sys.stdout, TextIOWrapper):  # as in a file
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")
        with to_file(sys.stdout) as write:
            yield write
        return
    with (
        atomic_write(output) as path,
        # File names may hold bytes that are not text.
        path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
        to_file(file) as write,
    ):
        yield write


def draw(path: Path, predictions: Sequence[Prediction]) -> None:
    """Draw the originals beside the pixels that the network saw, with the predictions, as PNG."""
    figure = views.figure(predictions)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _columns(prediction: Prediction) -> dict[str, str | float]:
    """Return what is written about a prediction: the most likely class and the second most likely."""
    (label, confidence), (runner_up, runner_up_confidence) = prediction.top_k(2)
    return dict(
        zip(
            _COLUMNS,
            (prediction.file, label, confidence, runner_up, runner_up_confidence, prediction.unclear),
            strict=True,
        )
    )


def _table() -> Write:
    """Return a function that prints rows under a heading; a column is as wide as its widest cell so far."""
    heading = [("file", "class", "confidence", "runner-up", "confidence", "unclear")]
    widths = [0] * len(heading[0])

    def write(predictions: Sequence[Prediction]) -> None:
        rows = [*heading, *map(_row, predictions)]
        heading.clear()
        for row in rows:
            widths[:] = map(max, widths, map(len, row))
        for row in rows:
            cells = zip(row, "<<><><", widths, strict=True)
            print("  ".join(f"{cell:{alignment}{width}}" for cell, alignment, width in cells))
        sys.stdout.flush()

    return write


def _row(prediction: Prediction) -> tuple[str, ...]:
    values = _columns(prediction).values()
    return tuple(f"{100 * value:.2f} %" if isinstance(value, float) else printable(value) for value in values)


@contextmanager
def _csv(file: TextIO) -> Iterator[Write]:
    writer = csv.writer(file, lineterminator="\n" if file is sys.stdout else "\r\n")  # as programs in a pipe expect
    writer.writerow(_COLUMNS)

    def write(predictions: Sequence[Prediction]) -> None:
        for prediction in predictions:
            row = _columns(prediction)
            row["file"] = spreadsheet_safe_path(str(row["file"]))
            row |= {name: spreadsheet_safe(str(row[name])) for name in ("predicted", "runner_up")}
            writer.writerow(f"{value:.6f}" if isinstance(value, float) else value for value in row.values())
        file.flush()  # for what reads it meanwhile

    yield write


@contextmanager
def _json(file: TextIO) -> Iterator[Write]:
    file.write("[")
    separator = "\n"

    def write(predictions: Sequence[Prediction]) -> None:
        nonlocal separator
        for prediction in predictions:
            file.write(separator + json.dumps(_columns(prediction)))
            separator = ",\n"
        file.flush()

    yield write
    file.write("\n]\n")
