"""The output of predictions: a table on stdout, a CSV or JSON file, or a figure."""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from lightning_cnn.files import atomic_write
from lightning_cnn.text import printable, spreadsheet_safe, spreadsheet_safe_path


class Frame(NamedTuple):
    """An image, as the network sees it.

    Attributes:
        path: The file; of the second of several pages, `file[2]`.
        pixels: The input of the network, 0 to 255, `(C, H, W)`.
        original: Thumbnail of the file, RGB, `(h, w, 3)`; None if it is not needed.
        unclear: Why the foreground may not be what was meant; empty if it is clear.
        foreground: What was taken for foreground, RGB, `(h, w, 3)`; None if it is not needed or nothing was cropped.
    """

    path: Path
    pixels: NDArray[np.uint8]
    original: NDArray[np.uint8] | None
    unclear: str = ""
    foreground: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Prediction:
    """The most likely class of an image and the second most likely; confidences are probabilities, 0 to 1.

    `unclear` says why the answer may be wrong: what is in the picture, or a low confidence; it is empty if it is clear.
    """

    file: str
    predicted: str
    confidence: float
    runner_up: str
    runner_up_confidence: float
    unclear: str = ""


#: Writes the predictions of a batch.
Write = Callable[[list[Prediction]], None]


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


def draw(path: Path, predicted: Sequence[tuple[Frame, Prediction]]) -> None:
    """Draw the originals beside the pixels that the network saw, with the predictions, as PNG."""
    from lightning_cnn.plots import figures as plots  # takes a third of a second
    from lightning_cnn.plots.style import channels_last

    captions = [
        f"{printable(frame.path.name)}\n{prediction.predicted}, {100 * prediction.confidence:.1f} %"
        + (f"\nunclear: {prediction.unclear}" if prediction.unclear else "")
        for frame, prediction in predicted
    ]
    steps = [[image for image in (frame.original, frame.foreground) if image is not None] for frame, _ in predicted]
    figure = plots.seen(steps, channels_last(np.stack([frame.pixels for frame, _ in predicted])), captions)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _table() -> Write:
    """Return a function that prints rows under a heading; a column is as wide as its widest cell so far."""
    heading = [("file", "class", "confidence", "runner-up", "confidence", "unclear")]
    widths = [0] * len(heading[0])

    def write(predictions: list[Prediction]) -> None:
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
    values = asdict(prediction).values()
    return tuple(f"{100 * value:.2f} %" if isinstance(value, float) else printable(value) for value in values)


@contextmanager
def _csv(file: TextIO) -> Iterator[Write]:
    writer = csv.writer(file, lineterminator="\n" if file is sys.stdout else "\r\n")  # as programs in a pipe expect
    writer.writerow(field.name for field in fields(Prediction))

    def write(predictions: list[Prediction]) -> None:
        for prediction in predictions:
            row = asdict(prediction)
            row["file"] = spreadsheet_safe_path(row["file"])
            row |= {name: spreadsheet_safe(row[name]) for name in ("predicted", "runner_up")}
            writer.writerow(f"{value:.6f}" if isinstance(value, float) else value for value in row.values())
        file.flush()  # for what reads it meanwhile

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
        file.flush()

    yield write
    file.write("\n]\n")
