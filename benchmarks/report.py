"""From measurements to tables: medians, ranges, pairwise ratios."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Any


@dataclass(frozen=True)
class Table:
    """The table of a section, printed as Markdown; `rows` has the text of each cell, `note` says how to read them."""

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
    """Return the ratio within each repeat, so that a load of the machine that lasts for minutes affects both sides."""
    return [n / d for n, d in zip(numerators, denominators, strict=True)]


def spread(values: Sequence[float], digits: int, unit: str = "") -> str:
    """Return the median with the smallest and the largest value, for example `1.50 s (1.20–1.90)`."""
    text = f"{median(values):,.{digits}f}{unit}"
    if len(values) == 1:
        return text
    return f"{text} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def percent(values: Sequence[float]) -> str:
    """Return the mean of fractions in percent, with the standard deviation if there are several."""
    fractions = [100 * value for value in values]
    return f"{mean(fractions):.2f}" + (f" ± {stdev(fractions):.2f}" if len(fractions) > 1 else "") + " %"


def by(measurements: Sequence[dict[str, Any]], key: str) -> dict[Any, list[dict[str, Any]]]:
    """Return the measurements grouped by their value for a key, in the order of its first appearance."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for measurement in measurements:
        groups.setdefault(measurement[key], []).append(measurement)
    return groups


def column(measurements: Sequence[dict[str, Any]], *keys: str) -> list[float]:
    """Return one value of each measurement; each further key is looked up in the value of the key before."""
    values: list[Any] = list(measurements)
    for key in keys:
        values = [value[key] for value in values]
    return values
