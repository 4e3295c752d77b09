"""Predictions on their way out: as a table for people, or into a CSV or JSON file; none is held."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TextIO

from lightning_cnn.files import atomic_write


@dataclass(frozen=True)
class Prediction:
    """What an image file was taken for, and what next to it; confidence is a probability, 0 to 1."""

    file: str
    predicted: str
    confidence: float
    runner_up: str
    runner_up_confidence: float


#: Takes the predictions of a batch.
Write = Callable[[list[Prediction]], None]


def printable(name: str) -> str:
    """Return a name with whatever a terminal would not show, or would obey, in Python's escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


@contextmanager
def sink(output: Path | None) -> Iterator[Write]:
    """Yield what takes predictions: to a .csv or .json file, which is whole in the end or absent, or else to stdout."""
    if output is None:
        yield _Table().write
        return
    to_file = _csv if output.suffix.lower() == ".csv" else _json
    with (
        atomic_write(output) as path,
        # A name in bytes that are no text must not be the end of the file.
        path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
        to_file(file) as write,
    ):
        yield write


class _Table:
    """Prints rows under a heading; columns grow with what comes, and do not shrink."""

    _titles = ("file", "class", "confidence", "runner-up", "confidence")

    def __init__(self) -> None:
        self.widths = [0] * len(self._titles)

    def write(self, predictions: list[Prediction]) -> None:
        """Print a batch, and the heading before the first."""
        rows = [_row(prediction) for prediction in predictions]
        if not any(self.widths):
            rows.insert(0, self._titles)
        self.widths = [
            max(width, *map(len, column)) for width, column in zip(self.widths, zip(*rows, strict=True), strict=True)
        ]
        for file, guess, confidence, other, its_confidence in rows:
            a, b, c, d, e = self.widths
            print(f"{file:<{a}}  {guess:<{b}}  {confidence:>{c}}  {other:<{d}}  {its_confidence:>{e}}")
        sys.stdout.flush()


def _row(prediction: Prediction) -> tuple[str, ...]:
    """Return the cells of a line for people."""
    words = (printable(word) for word in (prediction.file, prediction.predicted, prediction.runner_up))
    shares = (f"{100 * share:.2f} %" for share in (prediction.confidence, prediction.runner_up_confidence))
    (file, predicted, runner_up), (confidence, runner_up_confidence) = words, shares
    return file, predicted, confidence, runner_up, runner_up_confidence


@contextmanager
def _csv(file: TextIO) -> Iterator[Write]:
    writer = csv.writer(file)
    writer.writerow(field.name for field in fields(Prediction))

    def write(predictions: list[Prediction]) -> None:
        for prediction in predictions:
            row = asdict(prediction)
            if row["file"].startswith(("=", "+", "-", "@", "\t", "\r")):  # a spreadsheet would compute it
                row["file"] = f"./{row['file']}"
            writer.writerow(f"{value:.6f}" if isinstance(value, float) else value for value in row.values())

    yield write


@contextmanager
def _json(file: TextIO) -> Iterator[Write]:
    file.write("[")
    separator = "\n"

    def write(predictions: list[Prediction]) -> None:
        nonlocal separator
        for prediction in predictions:
            file.write(separator + json.dumps(asdict(prediction)))
            separator = ",\n"

    yield write
    file.write("\n]\n")
