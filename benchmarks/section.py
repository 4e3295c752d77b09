"""What a section of the benchmark is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.options import Options
from benchmarks.report import Table

Measurements = list[dict[str, Any]]


@dataclass(frozen=True)
class Section:
    """A part of the benchmark.

    Attributes:
        title: What is compared.
        measure: Returns the single measurements.
        table: Returns their table.
    """

    title: str
    measure: Callable[[Options], Measurements]
    table: Callable[[Measurements], Table]


def repeats(options: Options) -> Iterator[tuple[str, int, str]]:
    """Yield each system with the number of each repeat, which is its seed, and a text for both."""
    for system in options.systems:
        for repeat in range(options.repeats):
            yield system, repeat, f"{system}, repeat {repeat + 1} of {options.repeats}"
