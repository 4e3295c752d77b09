"""The predictions of a validation or a test, and the metrics computed from them.

Callbacks make `Predictions` from logits; a report reads them from `test_predictions.csv`. Imports numpy only, because a
report does not wait for torch.
"""

import csv
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_cnn.errors import UserError
from lightning_cnn.files import limited_lines
from lightning_cnn.text import path_from_spreadsheet, spreadsheet_safe, spreadsheet_safe_path

_COLUMNS = ("index", "true", "predicted", "confidence", "loss")
#: More images than any test set of this project has; they are read in a few seconds.
MAX_PREDICTIONS = 1_000_000
#: The last column, if the images are files.
_FILE = "file"


def confusion(targets: ArrayLike, predicted: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Return the confusion matrix: how many images of each class (row) were predicted as each class (column).

    Args:
        targets: True class of each image, `(N,)`, 0 to `num_classes` − 1.
        predicted: Predicted class of each image, likewise.
        num_classes: Number of classes, C.

    Returns:
        Numbers of images, `(C, C)`.

    Example:
        >>> confusion([0, 0, 1], [0, 1, 1], num_classes=2).tolist()
        [[1, 1], [0, 1]]
    """
    pairs = num_classes * np.asarray(targets, dtype=np.int64) + np.asarray(predicted, dtype=np.int64)
    return np.bincount(pairs, minlength=num_classes**2).astype(np.int64).reshape(num_classes, num_classes)


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class; NaN for 0 / 0.

    Attributes:
        images: Number of images of this class.
        accuracy: Share of them that were predicted correctly, 0 to 1; also called recall.
        precision: Share of the images predicted as this class that belong to it, 0 to 1.
        f1: Harmonic mean of accuracy and precision, 0 to 1.
        confused_with: The other class that its images were most often predicted as; the first of equals.
        confusions: Number of its images that were predicted as that class.
    """

    images: int
    accuracy: float
    precision: float
    f1: float
    confused_with: int
    confusions: int


def per_class(targets: ArrayLike, predicted: ArrayLike, num_classes: int) -> list[ClassMetrics]:
    """Return the metrics of each class, in memory for the images and the classes, not for all pairs of classes.

    Args:
        targets: As for `confusion`, like the others.
        predicted: As for `confusion`.
        num_classes: As for `confusion`.
    """
    true, guessed = np.asarray(targets, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    wrong = true != guessed
    hits, images, guesses = (np.bincount(labels, minlength=num_classes) for labels in (true[~wrong], true, guessed))
    pairs, counts = np.unique(num_classes * true[wrong] + guessed[wrong], return_counts=True)
    confused_with, confusions = np.zeros((2, num_classes), dtype=np.int64)
    order = np.lexsort((-pairs, counts))  # of each class, the most frequent pair comes last
    confused_with[pairs[order] // num_classes] = pairs[order] % num_classes
    confusions[pairs[order] // num_classes] = counts[order]
    with np.errstate(invalid="ignore"):
        accuracy, precision, f1 = hits / images, hits / guesses, 2 * hits / (images + guesses)
    columns = (images, accuracy, precision, f1, confused_with, confusions)
    return [ClassMetrics(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


@dataclass(frozen=True)
class Calibration:
    """Accuracy against confidence.

    Attributes:
        edges: Edges of the bins of confidence, `(B + 1,)`, 0 to 1.
        images: Number of images in each bin, `(B,)`.
        accuracy: Share of them that were predicted correctly, `(B,)`; NaN in empty bins.
        confidence: Their mean confidence, `(B,)`; NaN in empty bins.
        error: Expected calibration error, 0 to 1: mean of |accuracy − confidence| over all images.
    """

    edges: NDArray[np.float64]
    images: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    confidence: NDArray[np.float64]
    error: float


def calibration(correct: ArrayLike, confidence: ArrayLike, bins: int = 15) -> Calibration:
    """Compare confidence with accuracy in bins of equal width.

    Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", arXiv:1706.04599, 2017.

    Args:
        correct: Whether each prediction is correct, `(N,)`, with N at least 1.
        confidence: Probability of each predicted class, `(N,)`, 0 to 1.
        bins: Number of bins, B.
    """
    hits, shares = np.asarray(correct, dtype=np.float64), np.asarray(confidence, dtype=np.float64)
    edges = np.linspace(0, 1, bins + 1)
    of_bin = np.clip(np.searchsorted(edges, shares, side="left") - 1, 0, bins - 1)  # the upper edge belongs to a bin
    images = np.bincount(of_bin, minlength=bins)
    with np.errstate(invalid="ignore"):
        accuracy = np.bincount(of_bin, hits, minlength=bins) / images
        mean_confidence = np.bincount(of_bin, shares, minlength=bins) / images
    error = float(np.nansum(images * np.abs(accuracy - mean_confidence)) / len(shares))
    return Calibration(edges, images, accuracy, mean_confidence, error)


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions for N images.

    Attributes:
        class_names: Names of the C classes, in the order of the labels.
        targets: True class of each image, `(N,)`, 0 to C − 1.
        predicted: Predicted class of each image, `(N,)`, 0 to C − 1.
        confidence: Probability of each predicted class, `(N,)`, 0 to 1; NaN if the network returned NaN.
        losses: Cross-entropy of each image, `(N,)`.
        index: Position of each image in the dataset, `(N,)`, from 0.
        probabilities: Probability of each class, `(N, C)`; None if the predictions were read from a file.
        files: Name of the file of each image, `(N,)`; None if they have none.

    Example:
        >>> arrays = map(np.array, ([0, 1], [1, 1], [0.5, 0.75], [0.7, 0.3], [0, 1]))
        >>> predictions = Predictions(["cat", "dog"], *arrays)
        >>> predictions.accuracy, predictions.worst_mistakes(5).tolist()
        (0.5, [0])
    """

    class_names: Sequence[str]
    targets: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.floating]
    losses: NDArray[np.floating]
    index: NDArray[np.int64]
    probabilities: NDArray[np.floating] | None = None
    files: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each prediction is correct, `(N,)`."""
        return np.equal(self.targets, self.predicted)

    @property
    def accuracy(self) -> float:
        """Share of correct predictions, 0 to 1."""
        return float(self.correct.mean())

    @property
    def mean_confidence(self) -> float:
        """Mean probability of the predicted classes, 0 to 1."""
        return float(self.confidence.mean())

    @cached_property
    def confusion_matrix(self) -> NDArray[np.int64]:
        """How many images of each class (row) were predicted as each class (column), `(C, C)`."""
        return confusion(self.targets, self.predicted, len(self.class_names))

    @cached_property
    def per_class(self) -> list[ClassMetrics]:
        """The metrics of each class."""
        return per_class(self.targets, self.predicted, len(self.class_names))

    @cached_property
    def calibration(self) -> Calibration:
        """Accuracy against confidence, in 15 bins."""
        return calibration(self.correct, self.confidence)

    def worst_mistakes(self, n: int) -> NDArray[np.int64]:
        """Return the positions, 0 to N − 1, of at most n wrong predictions, highest loss first."""
        order = np.argsort(-self.losses, kind="stable")
        return order[~self.correct[order]][:n]

    def write_csv(self, path: Path) -> None:
        """Write a row for each image, with names in place of the labels, which no spreadsheet evaluates."""
        names = [spreadsheet_safe(name) for name in self.class_names]
        arrays = (self.index, self.targets, self.predicted, self.confidence, self.losses)
        files = [()] * len(self) if self.files is None else [(spreadsheet_safe_path(name),) for name in self.files]
        # File names may hold bytes that are not text.
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS if self.files is None else (*_COLUMNS, _FILE))
            rows = zip(*(array.tolist() for array in arrays), files, strict=True)
            for index, true, guess, confidence, loss, name in rows:
                writer.writerow((index, names[true], names[guess], f"{confidence:.6f}", f"{loss:.6f}", *name))

    @classmethod
    def read_csv(cls, path: Path, class_names: Sequence[str]) -> "Predictions":
        """Read a file of `write_csv`.

        Args:
            path: The file.
            class_names: Names of the classes, in the order of the labels.

        Raises:
            UserError: If the file is damaged, has no predictions or more than `MAX_PREDICTIONS`, or has a class that is
                not in `class_names`.
        """
        labels = {spreadsheet_safe(name): label for label, name in enumerate(class_names)}
        columns: list[array[Any]] = [array(kind) for kind in "qqqdd"]
        files: list[str] | None = None
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            reader = csv.reader(limited_lines(file))
            try:
                heading = next(reader, [])
                if heading == [*_COLUMNS, _FILE]:
                    files = []
                elif heading != [*_COLUMNS]:
                    raise ValueError(f"the columns must be {', '.join(_COLUMNS)}, got {', '.join(heading):.200}")
                for row in reader:
                    if len(row) != len(heading):
                        raise ValueError(f"a row must have {len(heading)} values, got {len(row)}")
                    if files is not None:
                        files.append(path_from_spreadsheet(row.pop()))
                    for column, value in zip(columns, _parse(row, labels), strict=True):
                        column.append(value)
                    if len(columns[0]) > MAX_PREDICTIONS:
                        raise UserError(f"{path} has more than {MAX_PREDICTIONS:,} predictions, too many; delete it")
            except (ValueError, OverflowError, csv.Error) as error:
                raise UserError(f"{path} is damaged near line {reader.line_num} ({error}); test again") from error
        if not columns[0]:
            raise UserError(f"{path} has no predictions; test again")
        index, targets, predicted, confidence, losses = map(np.asarray, columns)
        return cls(class_names, targets, predicted, confidence, losses, index, files=files)


def _parse(row: list[str], labels: dict[str, int]) -> tuple[int, int, int, float, float]:
    index, true, predicted, confidence, loss = row
    for name in (true, predicted):
        if name not in labels:
            raise ValueError(f"test_metrics.json has no class {name!r:.60}")
    if not (0 <= float(confidence) <= 1 or confidence == "nan"):
        raise ValueError(f"the confidence must be 0 to 1, got {confidence:.60}")
    if len(index) > 20:
        raise ValueError(f"{index:.60} is not a position")
    return int(index), labels[true], labels[predicted], float(confidence), float(loss)
