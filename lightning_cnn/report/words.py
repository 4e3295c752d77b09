"""Figures in words."""

import math

#: What stands where there is no figure.
NOTHING = "–"


def percent(share: float) -> str:
    """Return a share, 0 to 1, as percent, for example `89.53 %`."""
    return NOTHING if math.isnan(share) else f"{100 * share:.2f} %"


def figure(value: float) -> str:
    """Return a loss, for example `0.2958`."""
    return NOTHING if math.isnan(value) else f"{value:.4f}"


def count(n: int, one: str, many: str = "") -> str:
    """Return how many there are, for example `1 epoch`, `10,000 images`, `2 classes`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
