"""What predictions come to, from plain arrays: who is taken for whom, figures of each class, calibration.

numpy is enough for this, and a report of finished runs need not wait for torch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


def confusion(targets: ArrayLike, predicted: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Return how many images of each class (row) were taken for each class (column), `(C, C)`.

    Args:
        targets: True class of each image, `(N,)`, 0 to `num_classes` − 1.
        predicted: Predicted class of each image, likewise.
        num_classes: Number of classes, C.
    """
    pairs = num_classes * np.asarray(targets, dtype=np.int64) + np.asarray(predicted, dtype=np.int64)
    return np.bincount(pairs, minlength=num_classes**2).astype(np.int64).reshape(num_classes, num_classes)


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class; NaN where nothing was there to divide by.

    Attributes:
        images: Images of this class.
        accuracy: Share of them that were recognised, 0 to 1; also called recall.
        precision: Share of the images taken for this class that are of it, 0 to 1.
        f1: Harmonic mean of the two.
    """

    images: int
    accuracy: float
    precision: float
    f1: float


def per_class(counts: NDArray[np.int64]) -> list[ClassFigures]:
    """Return the figures of each class.

    Args:
        counts: What `confusion` returns, `(C, C)`.
    """
    hits, images, guesses = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, and meant
        accuracy, precision, f1 = hits / images, hits / guesses, 2 * hits / (images + guesses)
    rows = zip(images.tolist(), accuracy.tolist(), precision.tolist(), f1.tolist(), strict=True)
    return [ClassFigures(*row) for row in rows]


@dataclass(frozen=True)
class Calibration:
    """How far confidence can be taken at its word.

    Attributes:
        edges: Borders of the bins of confidence, `(B + 1,)`, 0 to 1.
        images: Images in each bin, `(B,)`.
        accuracy: Share of them that was predicted correctly, `(B,)`; NaN in empty bins.
        confidence: Their mean confidence, `(B,)`; NaN in empty bins.
        error: Expected calibration error, 0 to 1: the mean over all images of the distance between the two.
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
        correct: Whether each prediction is right, `(N,)`, with N at least 1.
        confidence: Probability of each predicted class, `(N,)`, 0 to 1.
        bins: Number of bins, B.
    """
    hits, shares = np.asarray(correct, dtype=np.float64), np.asarray(confidence, dtype=np.float64)
    edges = np.linspace(0, 1, bins + 1)
    of_bin = np.clip(np.searchsorted(edges, shares, side="left") - 1, 0, bins - 1)  # the upper border belongs to a bin
    images = np.bincount(of_bin, minlength=bins)
    with np.errstate(invalid="ignore"):
        accuracy = np.bincount(of_bin, hits, minlength=bins) / images
        mean_confidence = np.bincount(of_bin, shares, minlength=bins) / images
    error = float(np.nansum(images * np.abs(accuracy - mean_confidence)) / len(shares))
    return Calibration(edges, images, accuracy, mean_confidence, error)
