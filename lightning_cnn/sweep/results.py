"""The results of a sweep: files in its folder, and what is printed about each trial and the whole sweep."""

import csv
import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote
from statistics import fmean
from typing import Any

from filelock import BaseFileLock, FileLock
from optuna import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from lightning_cnn.config.yaml import dump
from lightning_cnn.files import atomic_write
from lightning_cnn.sweep.records import Records, has_no_metrics
from lightning_cnn.sweep.statistics import estimate
from lightning_cnn.sweep.tasks import has_diverged, original_number, retried
from lightning_cnn.text import spreadsheet_safe

TABLE = "results.csv"
BEST = "best.yaml"
FIGURES = ("history.png", "settings.png", "importance.png")

#: Settings that the sweep changes for its trials only.
_OF_A_TRIAL = (("trainer", "default_root_dir"), ("trainer", "enable_progress_bar"), ("plots", "enabled"))
#: The number of trials in the printed table.
_SHOWN = 10


def write(study: Study, folder: Path, fit_config: dict[str, Any]) -> str:
    """Write the results of a sweep into its folder, and return a summary.

    Written are the tables, and for a search figures: `history.png`, `settings.png` and, as soon as there are enough
    trials, `importance.png`. Several workers may do this at once.

    Args:
        study: The study of the sweep; its `kind` is `search` or `repeat`.
        folder: The folder of the sweep.
        fit_config: All settings of `fit` as the user gave them, in plain types. `best.yaml` takes the settings from
            them that the sweep changes for its trials.
    """
    (monitor,) = study.metric_names or [""]
    with locked(folder):
        trials, ranked = _write_tables(study, folder, fit_config)
        if study.user_attrs["kind"] == "repeat":
            return "\n".join([*_averages(trials, monitor), *_overview(folder, trials)])
        from lightning_cnn.sweep.figures import write_figures  # pyplot takes half a second to import

        write_figures(study, folder, monitor, is_share(monitor))
    if not ranked:
        return "\n".join(_overview(folder, trials))
    train = f"Train best: {program()} fit --config {quote(str(folder / BEST))}"
    return "\n".join([*_best_trials(ranked[:_SHOWN], monitor), *_overview(folder, trials), train])


def write_tables(study: Study, folder: Path, fit_config: dict[str, Any]) -> None:
    """Write `results.csv`, with all trials, and for a search `best.yaml`, a config that repeats the best trial.

    Args:
        study: As in `write`.
        folder: As in `write`.
        fit_config: As in `write`.
    """
    with locked(folder):
        _write_tables(study, folder, fit_config)


def locked(folder: Path) -> BaseFileLock:
    """A lock, without which older results could be written last."""
    return FileLock(folder / ".results.lock")


def _write_tables(
    study: Study, folder: Path, fit_config: dict[str, Any]
) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
    """Write both files, and return all trials and, of a search, the complete, best first. Requires the lock."""
    (monitor,) = study.metric_names or [""]
    trials = study.get_trials(deepcopy=False)
    _write_table(folder / TABLE, trials, monitor)
    if study.user_attrs["kind"] == "repeat":
        return trials, []
    sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    ranked = sorted(complete, key=lambda trial: (sign * _value(trial), original_number(trial)))
    if ranked:
        _write_best(folder / BEST, ranked[0], study.study_name, monitor, fit_config)
    return trials, ranked


def trial_line(trial: FrozenTrial, monitor: str) -> str:
    """Return one line about a trial that has ended, with the value of the metric `monitor`."""
    known, value, test = trial.user_attrs, _value(trial), trial.user_attrs.get("test", {})
    parts = [
        f"trial {original_number(trial)}",
        _state(trial),
        "" if math.isnan(value) else f"{monitor} {format_metric(monitor, value)}",
        *(f"{name} {format_metric(name, test[name])}" for name in _of_test(monitor) if name in test),
        " ".join(f"{name.rpartition('.')[2]}={_short_value(one)}" for name, one in known["settings"].items()),
        _duration(trial),
        known.get("error", ""),
    ]
    return "  ".join(filter(None, parts))


def is_share(monitor: str) -> bool:
    """Whether a metric is a share from 0 to 1, which is shown in percent: an accuracy."""
    return monitor.endswith(("acc", "accuracy"))


def name_in_test(monitor: str) -> str:
    """Return the name that a metric of the validation has in the test.

    Example:
        >>> name_in_test("val/acc")
        'test/acc'
    """
    return monitor.replace("val/", "test/", 1)


def _of_test(monitor: str) -> list[str]:
    """The metrics of the test that are printed: the one that is monitored in the validation, and the accuracy."""
    return [*dict.fromkeys((name_in_test(monitor), "test/acc"))]


def format_metric(monitor: str, value: float) -> str:
    """Return the value of a metric as it is printed."""
    return f"{100 * value:.2f} %" if is_share(monitor) else f"{value:.4g}"


def _value(trial: FrozenTrial) -> float:
    """The metric of a trial, the last one if it was pruned or has failed; NaN if it has none or has diverged."""
    if has_diverged(trial):
        return math.nan
    if trial.value is not None:
        return trial.value
    return math.nan if trial.last_step is None else trial.intermediate_values[trial.last_step]


def _state(trial: FrozenTrial) -> str:
    if has_diverged(trial):
        return "diverged"
    return "failed" if trial.state == TrialState.FAIL else trial.state.name.lower()


def _states(trials: Sequence[FrozenTrial]) -> list[str]:
    """The state of each trial; `interrupted` is an attempt at a trial whose worker died or was stopped."""
    interrupted = retried(trials)
    return ["interrupted" if trial.number in interrupted else _state(trial) for trial in trials]


def _duration(trial: FrozenTrial) -> str:
    return "" if trial.duration is None else f"{trial.duration.total_seconds():.0f} s"


def _settings(trial: FrozenTrial) -> dict[str, Any]:
    """The settings of a trial; empty if it has not started."""
    settings: dict[str, Any] = trial.user_attrs.get("settings", {})
    return settings


def _names(trials: Iterable[FrozenTrial]) -> list[str]:
    """The names of the settings of all trials."""
    return [*dict.fromkeys(name for trial in trials for name in _settings(trial))]


def _text(value: object) -> str:
    """A setting as in a flag."""
    return value if isinstance(value, str) else json.dumps(value)


def _cell(value: object) -> object:
    """A setting in a table, where numbers stay numbers."""
    return value if type(value) in (int, float) else _text(value)


def _short_value(value: object) -> str:
    """A setting in few characters: classes without their module, numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else _text(value).rpartition(".")[2]


def _write_table(path: Path, trials: Sequence[FrozenTrial], monitor: str) -> None:
    """Write a row for each attempt at a trial."""
    rest = ("seconds", "host", "folder", "error")
    tests = dict.fromkeys((name_in_test(monitor), *(n for trial in trials for n in trial.user_attrs.get("test", ()))))
    columns = ["number", "state", monitor, *tests, *_names(trials), *rest]
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(spreadsheet_safe, columns))
        for trial, state in zip(trials, _states(trials), strict=True):
            row = trial.user_attrs | {name: _cell(value) for name, value in _settings(trial).items()}
            row |= {"number": original_number(trial), "state": state, **row.get("test", {})}
            row[monitor] = "" if math.isnan(value := _value(trial)) else value
            row["seconds"] = "" if trial.duration is None else round(trial.duration.total_seconds(), 1)
            cells = (row.get(name, "") for name in columns)
            writer.writerow(spreadsheet_safe(cell) if isinstance(cell, str) else cell for cell in cells)


def program() -> str:
    """Return how this command was called; `python -m` finds classes of the user's in the current folder."""
    is_module = Path(sys.argv[0]).parts[-2:] == ("lightning_cnn", "__main__.py")
    return "python -m lightning_cnn" if is_module else "lightning-cnn"


def _write_best(path: Path, trial: FrozenTrial, sweep: str, monitor: str, fit_config: dict[str, Any]) -> None:
    """Write the config of a trial, without the settings that it has as a trial only."""
    config = dict(trial.user_attrs["config"])
    for section, name in _OF_A_TRIAL:
        config[section] = {**config[section], name: fit_config[section][name]}
    value = format_metric(monitor, _value(trial))
    heading = (
        f"# The best trial of {json.dumps(sweep)}: trial {original_number(trial)}, {monitor} {value}.\n"
        f"# Train it: {program()} fit --config {quote(str(path))}\n"
    )
    with atomic_write(path) as temporary:
        temporary.write_text(heading + dump(config), encoding="utf-8")


def _best_trials(best: Sequence[FrozenTrial], monitor: str) -> list[str]:
    """The best trials and their settings, as a table."""
    names = _names(best)
    rows = [["trial", monitor, *_short_names(names), "time"]]
    for trial in best:
        settings = _settings(trial)
        values = [_short_value(settings[name]) if name in settings else "–" for name in names]
        rows.append([str(original_number(trial)), format_metric(monitor, _value(trial)), *values, _duration(trial)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return [*lines, ""]


def _short_names(names: Sequence[str]) -> list[str]:
    """The shortest unique suffix of each name."""
    ends = {name: [".".join(name.split(".")[-n:]) for n in range(1, name.count(".") + 2)] for name in names}
    known = Counter(end for name in names for end in ends[name])
    return [next((end for end in ends[name] if known[end] == 1), name) for name in names]


def _averages(trials: Sequence[FrozenTrial], monitor: str) -> list[str]:
    """The average of repeated runs, in the validation and in the test, without those that have diverged."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    n_diverged = sum(map(has_diverged, trials))
    measured = {monitor: [(trial, _value(trial)) for trial in complete]} if complete else {}
    for name in _of_test(monitor):
        tests = [(trial, trial.user_attrs.get("test", {})) for trial in complete]
        if tested := [(trial, test[name]) for trial, test in tests if name in test]:
            measured[name] = tested
    width = max(map(len, measured), default=0)
    lines = [f"{name:<{width}} {_average(name, runs)}" for name, runs in measured.items()]
    if n_diverged:
        lines.append(f"without the {_count(n_diverged, 'run')} that diverged")
    return [*lines, ""] if lines else []


def _average(monitor: str, runs: Sequence[tuple[FrozenTrial, float]]) -> str:
    """Mean ± standard deviation, and the confidence interval of the mean.

    Of seeds and folds together, the runs on one fold are averaged first: they were evaluated on the same images, and
    treating them as independent would make the interval far too narrow.
    """
    by_fold = defaultdict(list)
    for trial, value in runs:
        by_fold[_settings(trial).get("data.fold")].append(value)
    is_folded = None not in by_fold
    samples = [fmean(fold) for fold in by_fold.values()] if is_folded else [value for _, value in runs]
    what = _count(len(samples), "fold" if is_folded else "seed")
    if len(runs) > len(samples):
        what += f", {_count(len(runs), 'run')}"
    return _estimate(monitor, samples, what, "rough " if is_folded else "")


def _estimate(monitor: str, samples: Sequence[float], what: str, rough: str = "") -> str:
    result = estimate(samples, (0.0, 1.0) if is_share(monitor) else (-math.inf, math.inf))
    if len(samples) == 1:
        return f"{format_metric(monitor, result.mean)} ({what})"
    mean, deviation, low, high = (format_metric(monitor, value) for value in result)
    return (
        f"{mean.removesuffix(' %')} ± {deviation} ({what}; {rough}95 % confidence interval of the mean "
        f"{low.removesuffix(' %')} to {high})"
    )


def records_line(records: Records) -> str:
    """Return one line about the records of a config: their file, and the average accuracy of the test."""
    name, rows = "test/acc", records.read()
    values = [float(row[name]) for row in rows if row.get(name)]
    n_diverged = len([row for row in rows if has_no_metrics(row)])
    what = _count(len(values), "seed") + (f" without {n_diverged} that diverged" if n_diverged else "")
    return f"Records:    {records.file}" + (f": {name} {_estimate(name, values, what)}" if values else "")


def _overview(folder: Path, trials: Sequence[FrozenTrial]) -> list[str]:
    """The states of the trials, and where the results are."""
    states = Counter(_states(trials))
    interrupted = states.pop("interrupted", 0)
    ended = ", ".join(f"{n} {state}" for state, n in states.items())
    written = ", ".join(name for name in (TABLE, *FIGURES) if (folder / name).is_file())
    return [
        f"Trials:     {ended}" + (f" (after {_count(interrupted, 'interrupted attempt')})" if interrupted else ""),
        f"Results:    {written} in {folder}",
        f"Look at it: tensorboard --logdir {quote(str(folder))}",
    ]


def _count(n: int, one: str) -> str:
    return f"{n} {one}" if n == 1 else f"{n} {one}s"
