"""The history of a run, read from its `metrics.csv`; numpy is enough for this."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_cnn.errors import UserError

CURVES = ("train_loss", "train_acc", "val_loss", "val_acc")
#: More epochs than any run has; a damaged number must not become an array that fills the memory.
_MAX_EPOCHS = 1_000_000


def read_history(path: Path) -> dict[str, NDArray[np.float64]]:
    """Return loss and accuracy of every epoch in a `metrics.csv`.

    Returns:
        `train_loss`, `train_acc`, `val_loss` and `val_acc`, each `(E,)` with NaN where nothing was measured; empty if
        nothing was measured at all.

    Raises:
        UserError: If the file is not what `fit` writes.
    """
    found: dict[tuple[str, int], float] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                found.update(_figures(row))
        except (ValueError, csv.Error) as error:
            raise UserError(f"{path} is damaged near line {reader.line_num} ({error}); mend or delete it") from error
    if not found:
        return {}
    n = 1 + max(epoch for _, epoch in found)
    return {curve: np.array([found.get((curve, epoch), np.nan) for epoch in range(n)]) for curve in CURVES}


def _figures(row: dict[str, str]) -> Iterator[tuple[tuple[str, int], float]]:
    """Yield curve, epoch and figure of what was measured over whole epochs."""
    for curve in CURVES:
        if value := row.get(curve.replace("_", "/")):
            yield (curve, _epoch(row.get("epoch"))), float(value)


def _epoch(word: str | None) -> int:
    """Return the number of an epoch; it is a float where loggers write all their figures as such."""
    epoch = float(word or "nan")
    if not 0 <= epoch < _MAX_EPOCHS or epoch != int(epoch):
        raise ValueError(f"{word!r} is not the number of an epoch")
    return int(epoch)
