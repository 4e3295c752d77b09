"""Mean, standard deviation and confidence interval of the metrics of repeated runs."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from scipy.special import stdtrit  # scipy.stats takes three times as long to import


class Estimate(NamedTuple):
    """Mean, standard deviation with n − 1, and the 95 % confidence interval of the mean; NaN for a single value."""

    mean: float
    deviation: float = math.nan
    low: float = math.nan
    high: float = math.nan


def estimate(values: Sequence[float], bounds: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """Estimate the mean by Student's t, which assumes values that are independent and about normal.

    Runs that differ by their seed are independent; the interval then holds for this dataset and this split only. Folds
    share training images, so they are not independent, and their interval is a rough one, as a rule too narrow:
    Bengio and Grandvalet, "No Unbiased Estimator of the Variance of K-Fold Cross-Validation", JMLR 5, 2004.

    Args:
        values: At least one value.
        bounds: The range of the metric, which the interval does not leave.

    Example:
        >>> [round(x, 3) for x in estimate([0.90, 0.91, 0.92, 0.93])]
        [0.915, 0.013, 0.894, 0.936]
    """
    n, mean = len(values), fmean(values)
    if n == 1:
        return Estimate(mean)
    deviation = stdev(values)
    margin = float(stdtrit(n - 1, 0.975)) * deviation / math.sqrt(n)
    return Estimate(mean, deviation, max(mean - margin, bounds[0]), min(mean + margin, bounds[1]))
