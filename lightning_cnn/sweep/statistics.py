"""What several runs of the same settings come to: mean, spread, and how well the mean is known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit  # type: ignore[import-untyped]  # scipy.stats takes three times as long to import

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean and what is known of it.

    Attributes:
        n: Number of values.
        mean: Their mean.
        deviation: Their standard deviation, with n − 1; NaN of a single value.
        low: Lower end of the 95 % confidence interval of the mean; NaN of a single value.
        high: Its upper end.
    """

    n: int
    mean: float
    deviation: float
    low: float
    high: float


def estimate(accuracies: Sequence[float]) -> Estimate:
    """Estimate the mean of accuracies by Student's t, which supposes that they are independent and about normal.

    Runs that differ by their seed are independent; the interval then speaks of this dataset and this split only. Folds
    share training images, so they are not independent, and their interval is only a rough one, as a rule too narrow:
    Bengio and Grandvalet, "No Unbiased Estimator of the Variance of K-Fold Cross-Validation", JMLR 5, 2004.

    Args:
        accuracies: At least one, 0 to 1.

    Returns:
        The estimate; its interval stays within 0 to 1, as all accuracies do.
    """
    n, mean = len(accuracies), float(np.mean(accuracies))
    if n == 1:
        return Estimate(n, mean, math.nan, math.nan, math.nan)
    deviation = float(np.std(accuracies, ddof=1))
    margin = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(n)
    return Estimate(n, mean, deviation, max(mean - margin, 0.0), min(mean + margin, 1.0))
