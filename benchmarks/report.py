"""From measurements to tables: medians, ranges, pairwise ratios."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Any


@dataclass(frozen=True)
class Table:
    """What a section has to say.

    Attributes:
        columns: The title of each column.
        rows: The text of each cell.
        note: What must be known to read it.
    """

    columns: list[str]
    rows: list[list[str]]
    note: str = ""

    def __str__(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        rule = "|".join("-" * (width + 2) for width in widths)
        head, *body = [" | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) for line in lines]
        table = "\n".join([f"| {head} |", f"|{rule}|", *(f"| {line} |" for line in body)])
        return f"{table}\n\n{self.note}" if self.note else table


def pairwise(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Return the ratio within each repeat: what disturbs the machine for minutes disturbs both alike."""
    return [n / d for n, d in zip(numerators, denominators, strict=True)]


def spread(values: Sequence[float], digits: int, unit: str = "") -> str:
    """Return the median with the smallest and the largest value, for example `1.50 s (1.20–1.90)`."""
    text = f"{median(values):,.{digits}f}{unit}"
    if len(values) == 1:
        return text
    return f"{text} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def percent(values: Sequence[float]) -> str:
    """Return the mean of shares in percent, with the standard deviation if there are several."""
    shares = [100 * value for value in values]
    return f"{mean(shares):.2f}" + (f" ± {stdev(shares):.2f}" if len(shares) > 1 else "") + " %"


def by(measurements: Sequence[dict[str, Any]], key: str) -> dict[str, list[dict[str, Any]]]:
    """Return the measurements by the value that they have for a key, in the order of their first appearance."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for measurement in measurements:
        groups.setdefault(measurement[key], []).append(measurement)
    return groups


def column(measurements: Sequence[dict[str, Any]], *keys: str) -> list[float]:
    """Return one figure of every measurement; more than one key goes down into what the measurements hold."""
    figures: list[Any] = list(measurements)
    for key in keys:
        figures = [figure[key] for figure in figures]
    return figures
