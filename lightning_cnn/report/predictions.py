"""The predictions of a test, read from `test_predictions.csv`."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_cnn.errors import UserError
from lightning_cnn.plots.evaluation import Calibration, ClassFigures, calibration, confusion, per_class

_COLUMNS = ("index", "true", "predicted", "confidence")


@dataclass(frozen=True)
class ClassRow:
    """A class with its figures.

    Attributes:
        name: What the class is called.
        figures: Images, accuracy, precision and F1.
        taken_for: The class that its images were most often taken for wrongly; empty if they never were.
        times: How often.
    """

    name: str
    figures: ClassFigures
    taken_for: str
    times: int


@dataclass(frozen=True)
class Mistake:
    """An image that was taken for another class.

    Attributes:
        index: Its place among the test images, from 0.
        true: What it shows.
        predicted: What it was taken for.
        confidence: Probability of the predicted class, 0 to 1.
        loss: Cross-entropy; NaN where it was not recorded.
    """

    index: int
    true: str
    predicted: str
    confidence: float
    loss: float


@dataclass(frozen=True)
class Predictions:
    """What was predicted for each image of a test.

    Attributes:
        class_names: Names in the order of the classes.
        index: Place of each image among the test images, `(N,)`, with N at least 1.
        targets: True class of each image, `(N,)`, 0 to the number of classes − 1.
        predicted: Predicted class of each image, likewise.
        confidence: Probability of each predicted class, `(N,)`, 0 to 1.
        loss: Cross-entropy of each image, `(N,)`; None where it was not recorded.
    """

    class_names: list[str]
    index: NDArray[np.int64]
    targets: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float64]
    loss: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Whether each prediction is right, `(N,)`."""
        return np.equal(self.targets, self.predicted)

    @property
    def accuracy(self) -> float:
        """Share of the predictions that are right, 0 to 1."""
        return float(self.hits.mean())

    @property
    def mean_confidence(self) -> float:
        """Mean probability of the predicted classes, 0 to 1."""
        return float(self.confidence.mean())

    @property
    def wrong(self) -> int:
        """Number of predictions that are wrong."""
        return int((~self.hits).sum())

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """How many images of each class (row) were taken for each class (column), `(C, C)`."""
        return confusion(self.targets, self.predicted, len(self.class_names))

    @cached_property
    def calibration(self) -> Calibration:
        """How far confidence can be taken at its word."""
        return calibration(self.hits, self.confidence)

    def class_rows(self) -> list[ClassRow]:
        """Return the figures of each class, in the order of the classes."""
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        taken_for, times = wrong.argmax(axis=1).tolist(), wrong.max(axis=1).tolist()
        return [
            ClassRow(name, figures, self.class_names[other] if n else "", n)
            for name, figures, other, n in zip(
                self.class_names, per_class(self.confusion), taken_for, times, strict=True
            )
        ]

    def worst_mistakes(self, n: int) -> list[Mistake]:
        """Return at most n wrong predictions: highest loss first, or highest confidence where no loss was recorded."""
        worth = self.confidence if self.loss is None else self.loss
        order = np.argsort(-worth, kind="stable")
        return [self._mistake(place) for place in order[~self.hits[order]][:n].tolist()]

    def _mistake(self, place: int) -> Mistake:
        return Mistake(
            index=int(self.index[place]),
            true=self.class_names[self.targets[place]],
            predicted=self.class_names[self.predicted[place]],
            confidence=float(self.confidence[place]),
            loss=float("nan") if self.loss is None else float(self.loss[place]),
        )


@dataclass(frozen=True)
class _Row:
    index: int
    true: str
    predicted: str
    confidence: float
    loss: float | None


def read_predictions(path: Path, class_names: Sequence[str] | None = None) -> Predictions:
    """Read a `test_predictions.csv`.

    Args:
        path: The file.
        class_names: Names in the order of the classes; None sorts those that occur.

    Raises:
        UserError: If the file is not what `test` writes, or has a class that is not in `class_names`.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        try:
            rows = list(_rows(reader))
        except (ValueError, csv.Error) as error:
            raise UserError(f"{path} is damaged near line {reader.line_num} ({error}); test again") from error
    if not rows:
        raise UserError(f"{path} has no predictions; test again")
    names = sorted({name for row in rows for name in (row.true, row.predicted)}) if class_names is None else class_names
    number = {name: n for n, name in enumerate(names)}
    for row in rows:
        for name in (row.true, row.predicted):
            if name not in number:
                raise UserError(f"{path} has the class {name!r}, which test_metrics.json does not know; test again")
    losses = [row.loss for row in rows if row.loss is not None]
    return Predictions(
        class_names=[printable(name) for name in names],
        index=np.array([row.index for row in rows]),
        targets=np.array([number[row.true] for row in rows]),
        predicted=np.array([number[row.predicted] for row in rows]),
        confidence=np.array([row.confidence for row in rows]),
        loss=np.array(losses) if len(losses) == len(rows) else None,
    )


def _rows(reader: "csv.DictReader[str]") -> Iterator[_Row]:
    if missing := set(_COLUMNS) - set(reader.fieldnames or ()):
        raise ValueError(f"there is no column {', '.join(sorted(missing))}")
    for row in reader:
        if None in row.values() or None in row:
            raise ValueError("the row is not complete, or too long")
        confidence = float(row["confidence"])
        if not 0 <= confidence <= 1:
            raise ValueError(f"the confidence must be 0 to 1, got {row['confidence']}")
        loss = float(row["loss"]) if "loss" in row else None
        yield _Row(int(row["index"]), row["true"], row["predicted"], confidence, loss)


def printable(text: str) -> str:
    """Return the text with a sign in place of what cannot be seen or turns the direction of writing."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
