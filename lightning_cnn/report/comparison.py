"""The page that compares several runs."""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lightning_cnn.report import figures
from lightning_cnn.report.summary import RunSummary
from lightning_cnn.report.template import decimal, metric, percent, render, whole
from lightning_cnn.text import printable

#: The largest number of metrics besides accuracy and loss.
_MAX_KINDS = 10


@dataclass(frozen=True)
class Column:
    """A column of metrics in the comparison.

    Attributes:
        title: Its heading.
        value: The value of a run; NaN if it has none.
        form: Turns the value into text.
        best: Picks the best of several values; None if no value is better than another.
    """

    title: str
    value: Callable[[RunSummary], float]
    form: Callable[[float], str]
    best: Callable[[Sequence[float]], float] | None = None


def _test_accuracy(accuracy: float) -> str:
    return "not tested" if math.isnan(accuracy) else percent(accuracy)


_COLUMNS = (
    Column("Test accuracy", lambda run: run.tested("acc"), _test_accuracy, max),
    Column("Validation accuracy", lambda run: run.at_best("val/acc"), percent, max),
    Column("Test loss", lambda run: run.tested("loss"), decimal, min),
    Column("Calibration error", lambda run: run.calibration_error, percent, min),
    Column("Parameters", lambda run: run.parameters, whole),
    Column("Epochs", lambda run: run.epochs, whole),
)


def _columns(runs: Mapping[str, RunSummary]) -> list[Column]:
    """Return the columns: after accuracy and loss, any other metric of one of the runs."""
    kinds = [*dict.fromkeys(kind for run in runs.values() for kind in run.kinds if kind not in ("acc", "loss"))]
    columns = [*_COLUMNS]
    for kind in reversed(kinds[:_MAX_KINDS]):
        modes = {run.mode for run in runs.values() if run.monitored == kind}
        best = None if len(modes) != 1 else min if modes == {"min"} else max  # of other metrics, nobody knows
        form = partial(metric, kind=kind)
        columns[3:3] = [
            Column(f"Test {kind}", partial(RunSummary.tested, kind=kind), form, best),
            Column(f"Validation {kind}", partial(RunSummary.at_best, metric=f"val/{kind}"), form, best),
        ]
    return [
        column
        for column in columns
        if column in _COLUMNS or not all(math.isnan(column.value(run)) for run in runs.values())
    ]


def comparison_page(runs: Mapping[str, RunSummary], pages: Mapping[str, Path], output: Path) -> str:
    """Return the page that compares runs.

    Args:
        runs: At least two runs, by their names on the page.
        pages: The page of each run.
        output: The file of this page; links to the others are relative to it.
    """
    kind, mode = _ranking(runs)
    ranked = dict(sorted(runs.items(), key=lambda item: _rank(item[1], kind, mode)))
    start = output.resolve().parent
    columns = _columns(ranked)
    return render(
        "comparison.html",
        runs=ranked,
        links={label: quote(os.fsencode(os.path.relpath(pages[label].resolve(), start))) for label in ranked},
        ranking="accuracy" if kind == "acc" else kind,
        columns=columns,
        marked=_best_values(ranked, columns),
        curves=figures.comparison(ranked),
        settings=differing_settings([run.config for run in ranked.values()]),
        notes=_notes(ranked),
    )


def _ranking(runs: Mapping[str, RunSummary]) -> tuple[str, str]:
    """Return the metric to sort by, and whether its highest or lowest value is the best: what all runs monitor."""
    monitored = {(run.monitored, run.mode) for run in runs.values() if run.monitor.startswith("val/")}
    return monitored.pop() if len(monitored) == 1 else ("acc", "max")


def _rank(run: RunSummary, kind: str, mode: str) -> tuple[bool, float]:
    """Return the key to sort by: the metric of the test or, without a test, of the validation; the best first."""
    value = run.tested(kind) if run.test else run.at_best(f"val/{kind}")
    return math.isnan(value), value if mode == "min" else -value


def _best_values(runs: Mapping[str, RunSummary], columns: Sequence[Column]) -> set[tuple[str, str]]:
    """Return label and column of the best values, each among the runs on the same data."""
    marked = set()
    for data in {run.evaluated_on for run in runs.values()}:
        for column in columns:
            values = {label: column.value(run) for label, run in runs.items() if run.evaluated_on == data}
            known = [value for value in values.values() if not math.isnan(value)]
            if column.best is not None and len(set(known)) > 1:
                best = column.best(known)
                marked |= {(label, column.title) for label, value in values.items() if value == best}
    return marked


def _notes(runs: Mapping[str, RunSummary]) -> list[str]:
    """Return what a reader must know before comparing the runs."""
    notes = []
    if len(data := {run.evaluated_on for run in runs.values()}) > 1:
        titles = sorted(f"{dataset}, the small sample" if sample else dataset for dataset, sample in data)
        notes.append(
            f"These runs were evaluated on different data ({'; '.join(titles)}). Metrics on different data cannot be "
            "compared; the best is marked among runs on the same data only."
        )
    tests = [(run.evaluated_on, run.test.images) for run in runs.values() if run.test]
    if len(set(tests)) > len({data for data, _ in tests}):
        numbers = sorted({images for _, images in tests})
        notes.append(f"The numbers of test images differ: {', '.join(f'{n:,}' for n in numbers)}.")
    for applies, text, remark in _REMARKS:
        if labels := [label for label, run in runs.items() if applies(run)]:
            notes.append(f"{text}: {', '.join(labels)}.{remark}")
    return notes


#: Remarks on runs: whether one applies, the text before the names of the runs, and the text after them.
_REMARKS: tuple[tuple[Callable[[RunSummary], bool], str, str], ...] = (
    (
        lambda run: run.evaluated_on[1],
        "Evaluated on the small sample that ships with the package, not on the whole dataset",
        " Such metrics only show that everything works.",
    ),
    (
        lambda run: run.test is None,
        "Not tested",
        " Without a test, runs are ranked by the validation, which is optimistic: the weights were chosen by it.",
    ),
    (
        lambda run: run.test is not None and run.test.is_stale,
        "Trained further after the test, whose metrics are those of earlier weights",
        "",
    ),
    (lambda run: bool(run.limits), "Trained or validated on a part of the data only", ""),
    (lambda run: not len(run.history), "No epoch was logged, so there are no curves", ""),
    (lambda run: not run.config, "Settings were not recorded", ""),
)


def differing_settings(configs: Sequence[Mapping[Any, Any]]) -> list[tuple[str, list[str | None]]]:
    """Return the settings that are not the same in all configs, with the value in each config or None.

    Args:
        configs: The settings of at least one run.
    """
    flat = [dict(_flatten(config)) for config in configs]
    keys = dict.fromkeys(key for config in flat for key in config)  # a set that keeps the order
    rows = [(key, [config.get(key) for config in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def _flatten(settings: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each setting with its dotted name and its value as text, for example `model.init_args.mean`, `0.5`."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def labels(folders: Sequence[Path]) -> list[str]:
    """Return short unique names of runs: the last parts of each path, as many as needed and at least two.

    Args:
        folders: The run folders, each once.
    """
    paths = [folder.resolve().parts for folder in folders]
    for n in range(2, max(map(len, paths)) + 1):
        ends = [printable(str(Path(*path[-n:]))) for path in paths]
        if len(set(ends)) == len(ends):
            break
    return ends
