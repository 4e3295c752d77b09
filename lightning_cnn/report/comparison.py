"""The page that compares several runs."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from lightning_cnn.report import figures as pictures
from lightning_cnn.report import words
from lightning_cnn.report.predictions import printable
from lightning_cnn.report.summary import Run
from lightning_cnn.report.settings import differing
from lightning_cnn.report.template import render


@dataclass(frozen=True)
class Column:
    """A column of figures in the comparison.

    Attributes:
        title: Its heading.
        value: The figure of a run; NaN where there is none.
        form: The figure in words.
        best: Picks the best of several figures; None where no figure is better than another.
    """

    title: str
    value: Callable[[Run], float]
    form: Callable[[float], str]
    best: Callable[[Sequence[float]], float] | None = None


def _whole(value: float) -> str:
    return words.NOTHING if math.isnan(value) else f"{value:,.0f}"


def _tested(accuracy: float) -> str:
    return "not tested" if math.isnan(accuracy) else words.percent(accuracy)


COLUMNS = (
    Column("Test accuracy", lambda run: run.test_acc, _tested, max),
    Column("Best validation accuracy", lambda run: run.best_val_acc, words.percent, max),
    Column("Test loss", lambda run: run.test_loss, words.figure, min),
    Column("Calibration error", lambda run: run.calibration_error, words.percent, min),
    Column("Parameters", lambda run: float("nan") if run.parameters is None else run.parameters, _whole),
    Column("Epochs", lambda run: run.epochs, _whole),
)


def comparison_page(runs: Mapping[str, Run], pages: Mapping[str, Path], output: Path) -> str:
    """Return the page that compares runs.

    Args:
        runs: At least two runs, by what they are called.
        pages: The page of each run.
        output: The file that this page is for: links to the others start there.
    """
    ranked = dict(sorted(runs.items(), key=lambda item: _rank(item[1])))
    start = output.resolve().parent
    return render(
        "comparison.html",
        runs=ranked,
        links={label: quote(os.path.relpath(pages[label].resolve(), start)) for label in ranked},
        columns=COLUMNS,
        marked=_marked(ranked),
        curves=pictures.comparison(ranked),
        settings=differing([run.config for run in ranked.values()]),
        notes=_notes(ranked),
    )


def _rank(run: Run) -> tuple[bool, float]:
    """What to sort by: test accuracy, or validation accuracy where there is none, highest first."""
    accuracy = run.best_val_acc if math.isnan(run.test_acc) else run.test_acc
    return math.isnan(accuracy), -accuracy


def _marked(runs: Mapping[str, Run]) -> set[tuple[str, str]]:
    """Label and column of the best figures, each among the runs that were measured on the same data."""
    marked = set()
    for data in {run.measured_on for run in runs.values()}:
        for column in COLUMNS:
            figures = {label: column.value(run) for label, run in runs.items() if run.measured_on == data}
            known = [value for value in figures.values() if not math.isnan(value)]
            if column.best is not None and len(set(known)) > 1:
                best = column.best(known)
                marked |= {(label, column.title) for label, value in figures.items() if value == best}
    return marked


def _notes(runs: Mapping[str, Run]) -> list[str]:
    """What has to be known before runs are compared."""
    notes = []
    if len(data := {run.measured_on for run in runs.values()}) > 1:
        titles = sorted(f"{dataset}, the small sample" if sample else dataset for dataset, sample in data)
        notes.append(
            f"These runs were measured on different data ({'; '.join(titles)}). Figures on different data cannot be "
            "compared; the best is marked among runs on the same data only."
        )
    if sample := [label for label, run in runs.items() if run.measured_on[1]]:
        notes.append(
            f"Measured on the small sample that ships with the package, not on the whole dataset: {_list(sample)}. "
            "Such figures are a trial, no result."
        )
    if untested := [label for label, run in runs.items() if run.test is None]:
        notes.append(
            f"Not tested yet: {_list(untested)}. Their place follows from validation accuracy, by which the weights "
            "were chosen; it tends to be too high."
        )
    extents = {(run.measured_on, run.test.images) for run in runs.values() if run.test and run.test.images is not None}
    if len(extents) > len({data for data, _ in extents}):
        numbers = sorted({images for _, images in extents})
        notes.append(f"Tests were of different numbers of images: {_list([f'{n:,}' for n in numbers])}.")
    for what, labels in (
        (
            "Trained further after the test, whose figures are those of earlier weights",
            [label for label, run in runs.items() if run.test and run.test.is_stale],
        ),
        ("Trained or validated on a part of the data only", [label for label, run in runs.items() if run.limits]),
        ("No epoch was measured, so there are no curves", [label for label, run in runs.items() if not run.curves]),
        ("Settings were not recorded", [label for label, run in runs.items() if not run.config]),
    ):
        if labels:
            notes.append(f"{what}: {_list(labels)}.")
    return notes


def _list(labels: Sequence[str]) -> str:
    return ", ".join(labels)


def labels(folders: Sequence[Path]) -> list[str]:
    """Return what to call each run: as much of the end of its path as tells all of them apart, two names at least.

    Args:
        folders: The run folders, each once.
    """
    paths = [folder.resolve().parts for folder in folders]
    for n in range(2, max(map(len, paths)) + 1):
        ends = [printable(str(Path(*path[-n:]))) for path in paths]
        if len(set(ends)) == len(ends):
            break
    return ends
