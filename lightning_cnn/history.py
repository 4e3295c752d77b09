"""The metrics of a run: reads `metrics.csv`, of any size, within limits of time and memory.

A run may have a million epochs, and a file that others have written may have any content. Blocks of rows are searched
with numpy for those that have a value, because a row for each logged step costs seconds otherwise; each other row costs
a few bytes of memory at most. Imports neither torch nor Lightning.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_cnn.errors import UserError
from lightning_cnn.text import text_from_spreadsheet

#: Size of the largest file in bytes: it is read in some five seconds.
MAX_BYTES = 2**30
#: How many values it may have for these: those of a million epochs.
MAX_VALUES = 8_000_000
#: More epochs than any run has.
MAX_EPOCHS = 1_000_000
#: How many metrics of a history there are at most, besides loss and accuracy.
MAX_METRICS = 10
#: How many epochs a figure shows at most.
MAX_POINTS = 2_000
#: Bytes of the longest value and row, and of a block of rows.
_MAX_CELL, _MAX_ROW, _BLOCK = 100, 2**17, 2**22
_ALWAYS = ("loss", "acc")


@dataclass(frozen=True)
class History:
    """The metrics of the epochs in which anything was measured.

    Attributes:
        epochs: The numbers of these epochs, from 0, ascending, `(E,)`.
        metrics: For each metric of training and validation, for example `val/acc`, its last value in each of these
            epochs, `(E,)`; NaN where nothing was measured.
    """

    epochs: NDArray[np.int64]
    metrics: dict[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.epochs)

    def thinned(self, most: int = MAX_POINTS) -> "History":
        """Return some `most` of many epochs: those at equal distances, the last, and the extremes of each metric."""
        if len(self) <= most:
            return self
        kept = {*np.linspace(0, len(self) - 1, most).astype(int).tolist()}
        for values in self.metrics.values():
            if not np.isnan(values).all():
                kept |= {int(np.nanargmin(values)), int(np.nanargmax(values))}
        rows = np.array(sorted(kept))
        return History(self.epochs[rows], {name: values[rows] for name, values in self.metrics.items()})

    def curves(self) -> dict[str, NDArray[Any]]:
        """Return what `plots.figures.history` draws: loss and accuracy over the epochs, which it counts from 1."""
        names = {f"{stage}_{kind}": f"{stage}/{kind}" for stage in ("train", "val") for kind in _ALWAYS}
        return {"epochs": self.epochs + 1, **{curve: self.metrics[name] for curve, name in names.items()}}


def read_history(path: Path, monitor: str = "val/acc") -> History:
    """Return training and validation loss and accuracy, and other metrics of the validation.

    Args:
        path: `metrics.csv`; without one, there are no epochs.
        monitor: A metric that is read in any case.

    Raises:
        UserError: If the file is damaged, or beyond the limits of this module.
    """
    logged = _read_header(path)
    others = sorted((name for name in logged if name.startswith("val/")), key=lambda name: name != monitor)
    kinds = dict.fromkeys([*_ALWAYS, *(name.removeprefix("val/") for name in others)])
    names = [f"{stage}/{kind}" for stage in ("train", "val") for kind in [*kinds][: MAX_METRICS + len(_ALWAYS)]]
    names = [*dict.fromkeys([*names, monitor])]
    found = np.full((len(names), 16), np.nan)
    for position, epochs, values in _measurements(path, names):
        if (last := int(epochs.max())) >= found.shape[1]:
            more = min(MAX_EPOCHS, max(2 * found.shape[1], last + 1)) - found.shape[1]
            found = np.pad(found, ((0, 0), (0, more)), constant_values=np.nan)
        found[position, epochs] = values  # of equal epochs, the last one
    measured = np.flatnonzero(~np.isnan(found).all(axis=0))
    return History(measured, {name: values[measured] for name, values in zip(names, found, strict=True)})


def read_metric(path: Path, name: str) -> list[tuple[int, float]]:
    """Return the epoch, from 0, and the value of every measurement of a metric, in the order of the file.

    Raises:
        UserError: As for `read_history`.
    """
    blocks = _measurements(path, [name])
    return [pair for _, *found in blocks for pair in zip(*(numbers.tolist() for numbers in found), strict=True)]


def _read_header(path: Path) -> list[str]:
    """Return the names of the columns; none if there is no file."""
    if not path.is_file():
        return []
    if (size := path.stat().st_size) > MAX_BYTES:
        raise UserError(f"{path} has {size:,} bytes, more than {MAX_BYTES:,}; delete it")
    with path.open("rb") as file:
        line = file.readline(_MAX_ROW)
    if len(line) == _MAX_ROW:
        raise _damaged(path, 1, f"a line has more than {_MAX_ROW:,} bytes")
    try:
        return [*map(text_from_spreadsheet, next(csv.reader([line.decode()]), []))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise _damaged(path, 1, error) from error


def _measurements(path: Path, names: Sequence[str]) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float64]]]:
    """Yield for each block of rows and each name that has values there: its position, and epochs and values."""
    header = _read_header(path)
    columns = {position: header.index(name) for position, name in enumerate(names) if name in header}
    if not columns:
        return
    if "epoch" not in header:
        raise _damaged(path, 1, "it has no column epoch")
    left = MAX_VALUES
    for block in _blocks(path, len(header)):
        filled = block.ends[:, [*columns.values()]] > block.starts[:, [*columns.values()]]
        if (left := left - int(filled.sum())) < 0:
            raise UserError(f"{path} has more than {MAX_VALUES:,} values, too many to be summed up; delete it")
        rows = np.flatnonzero(filled.any(axis=1))
        epochs = block.epochs(rows, header.index("epoch"))
        for (position, column), has_value in zip(columns.items(), filled[rows].T, strict=True):
            if has_value.any():
                yield position, epochs[has_value], block.numbers(rows[has_value], column)


@dataclass(frozen=True)
class _Block:
    """A block of rows of a file: where each cell starts and ends in it, `(R, C)`, and the number of its first line."""

    path: Path
    content: bytes
    starts: NDArray[np.intp]
    ends: NDArray[np.intp]
    line: int

    def numbers(self, rows: NDArray[np.intp], column: int) -> NDArray[np.float64]:
        """Return the values of a column in these rows."""
        starts, ends = self.starts[rows, column], self.ends[rows, column]
        if (long := np.flatnonzero(ends - starts > _MAX_CELL)).size:
            raise self.damaged(rows[long[0]], f"a value has more than {_MAX_CELL} characters")
        cells = [self.content[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        try:
            return np.array([*map(float, cells)])
        except ValueError as error:
            wrong = next(n for n, cell in enumerate(cells) if f"{cell!r}" in str(error))
            raise self.damaged(rows[wrong], error) from error

    def epochs(self, rows: NDArray[np.intp], column: int) -> NDArray[np.int64]:
        """Return the numbers of the epochs in these rows; some loggers write them as floats."""
        numbers = self.numbers(rows, column)
        valid = (numbers >= 0) & (numbers < MAX_EPOCHS) & (numbers == np.floor(numbers))
        if (wrong := np.flatnonzero(~valid)).size:
            raise self.damaged(rows[wrong[0]], f"{numbers[wrong[0]]:g} is not the number of an epoch")
        return numbers.astype(np.int64)

    def damaged(self, row: int, why: object) -> UserError:
        """Return the error about a row."""
        return _damaged(self.path, self.line + row, why)


def _blocks(path: Path, columns: int) -> Iterator[_Block]:
    """Yield the rows of a file, without its header."""
    with path.open("rb") as file:
        file.readline()
        line, rest = 2, b""
        while block := file.read(_BLOCK) or (rest and b"\n"):  # a last line without its end
            content = (rest + block).replace(b"\r", b"")
            if b"\n\n" in content or content.startswith(b"\n"):  # empty lines
                content = re.sub(rb"\n+", b"\n", content).removeprefix(b"\n")
            size = content.rfind(b"\n") + 1
            content, rest = content[:size], content[size:]
            if len(rest) > _MAX_ROW:
                raise _damaged(path, line, f"a line has more than {_MAX_ROW:,} bytes")
            characters = np.frombuffer(content, np.uint8)
            ends = np.flatnonzero((characters == ord(",")) | (characters == ord("\n")))
            cells = np.diff(np.flatnonzero(characters[ends] == ord("\n")), prepend=-1)
            if (wrong := np.flatnonzero(cells != columns)).size:
                raise _damaged(path, line + wrong[0], f"{cells[wrong[0]]:,} values for {columns:,} columns")
            starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
            yield _Block(path, content, starts.reshape(-1, columns), ends.reshape(-1, columns), line)
            line += len(cells)


def _damaged(path: Path, line: int, why: object) -> UserError:
    return UserError(f"{path} is damaged near line {line} ({why}); repair or delete it")
