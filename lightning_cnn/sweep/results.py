"""What a sweep has come to: files in its folder, and a summary to print."""

import csv
import json
import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote
from statistics import fmean
from typing import TYPE_CHECKING, Any

import yaml
from filelock import FileLock
from optuna import Study
from optuna.distributions import CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from lightning_cnn.files import atomic_write
from lightning_cnn.sweep.statistics import estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_cnn.sweep.figures import Setting

TABLE = "results.csv"
BEST = "best.yaml"
PICTURES = ("history.png", "settings.png", "importance.png")

#: What each trial has of its own, whatever the user gave.
_OF_A_TRIAL = (("trainer", "default_root_dir"), ("trainer", "enable_progress_bar"), ("plots", "enabled"))
#: How many trials are printed.
_SHOWN = 10
#: The fewest complete trials from which importance is told. In twelve searches with one setting that mattered and three
#: that did not, ten trials pointed to it ten times, and fifteen every time.
_ENOUGH = 10
#: The best quarter is compared with all: with Optuna's tenth, ten trials pointed to the setting four times.
_QUANTILE = 0.25


def write(study: Study, folder: Path, fit_config: dict[str, Any]) -> str:
    """Write the results of a sweep into its folder, and return what to print.

    Written are `results.csv`, with all trials, and of a search `best.yaml`, a config that repeats the best trial, and
    pictures: `history.png`, `settings.png` and, as soon as there are enough trials, `importance.png`. What cannot be
    told yet is left out. Several workers may do this at once: the last of them has seen the most.

    Args:
        study: The study; its `kind` is `search` or `repeat`.
        folder: The folder of the sweep.
        fit_config: The settings of `fit` as the user gave them, all of them as plain types. Where the best run goes,
            and whether it draws pictures, is taken from them: trials have their own way of both.
    """
    with FileLock(folder / ".results.lock"):  # else what was read first could be written last
        trials = study.get_trials(deepcopy=False)
        _write_table(folder / TABLE, trials)
        if study.user_attrs.get("kind") == "repeat":
            return "\n".join([*_repetitions(trials), *_overview(folder, trials)])
        best = _ranked(trials)[:_SHOWN]
        if best:
            _write_best(folder / BEST, best[0], study.study_name, fit_config)
        _write_pictures(folder, study, trials)
    return "\n".join([*_table(best), *_overview(folder, trials), *_ways_on(folder, best)])


def _ranked(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """The complete trials, highest validation accuracy first; of equals, the first."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return sorted(complete, key=lambda trial: (-_accuracy(trial), _number(trial)))


def _number(trial: FrozenTrial) -> int:
    """The number of a trial, which it keeps when it is tried again."""
    number: int = trial.user_attrs.get("number", trial.number)
    return number


def _accuracy(trial: FrozenTrial) -> float:
    """The highest validation accuracy of a trial, 0 to 1; NaN if there was none."""
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        return trial.value
    return max(trial.intermediate_values.values(), default=math.nan)


def _settings(trial: FrozenTrial) -> dict[str, Any]:
    """The settings of a trial; empty if it was not begun."""
    settings: dict[str, Any] = trial.user_attrs.get("settings", {})
    return settings


def _names(trials: Iterable[FrozenTrial]) -> list[str]:
    """The settings of all trials together."""
    return [*dict.fromkeys(name for trial in trials for name in _settings(trial))]


def _word(value: object) -> str:
    """A setting as a flag has it."""
    return value if isinstance(value, str) else json.dumps(value)


def _states(trials: Iterable[FrozenTrial]) -> list[str]:
    """What became of each trial; those whose worker died or was stopped were tried again."""
    again = {number for trial in trials for number in trial.system_attrs.get("retry_history", ())}
    words = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    words |= {TrialState.RUNNING: "running", TrialState.WAITING: "waiting"}
    return ["tried again" if trial.number in again else words[trial.state] for trial in trials]


def _write_table(path: Path, trials: Sequence[FrozenTrial]) -> None:
    """Write a row for each trial, however it ended."""
    names = _names(trials)
    rest = ("seconds", "host", "folder", "error")
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["number", "state", "val/acc", "test/acc", *names, *rest])
        for trial, state in zip(trials, _states(trials), strict=True):
            accuracy, settings = _accuracy(trial), _settings(trial)
            values = [_word(settings[name]) if name in settings else "" for name in names]
            known = [trial.user_attrs.get(name, "") for name in ("test/acc", *rest)]
            row = [_number(trial), state, "" if math.isnan(accuracy) else accuracy, known[0], *values, *known[1:]]
            writer.writerow(row)


def _write_best(path: Path, trial: FrozenTrial, sweep: str, fit_config: dict[str, Any]) -> None:
    """Write the config of a trial, without what it had as a trial only."""
    config = dict(trial.user_attrs["config"])
    for section, name in _OF_A_TRIAL:
        config[section] = {**config[section], name: fit_config[section][name]}
    heading = (
        f"# The best of {json.dumps(sweep)}: trial {_number(trial)}, val/acc {100 * _accuracy(trial):.2f} %.\n"
        f"# Train it: lightning-cnn fit --config {quote(str(path))}\n"
    )
    with atomic_write(path) as temporary:
        temporary.write_text(heading + yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def _write_pictures(folder: Path, study: Study, trials: Sequence[FrozenTrial]) -> None:
    """Write those pictures for which there is enough to see; a picture of an earlier sweep does not stay."""
    for name, figure in zip(PICTURES, _draw(study, trials), strict=True):
        if figure is None:
            (folder / name).unlink(missing_ok=True)
            continue
        with atomic_write(folder / name) as path:
            figure.savefig(path, format="png", dpi=120)


def _draw(study: Study, trials: Sequence[FrozenTrial]) -> "tuple[Figure | None, ...]":
    """The pictures, in the order of `PICTURES`."""
    from lightning_cnn.sweep import figures  # matplotlib takes half a second; who is refused need not wait for it

    ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    ended.sort(key=_number)
    accuracy, pruned = [_accuracy(trial) for trial in ended], [trial.state == TrialState.PRUNED for trial in ended]
    if all(map(math.isnan, accuracy)):
        return None, None, None
    values = {name: _drawn(name, ended) for name in _names(ended)}
    complete = len(_ranked(trials))
    is_enough = complete >= _ENOUGH and len(values) > 1
    return (
        figures.history([_number(trial) for trial in ended], accuracy, pruned),
        figures.settings(values, accuracy, pruned),
        figures.importance(_importance(study), complete) if is_enough else None,
    )


def _importance(study: Study) -> dict[str, float]:
    """How much each setting has to do with being among the best, 0 to 1, all together 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that few trials had a setting can be seen in settings.png
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=_QUANTILE))


def _drawn(name: str, trials: Sequence[FrozenTrial]) -> "Setting":
    """What trials had for a setting, as it is drawn: choices in words, numbers of a range as such."""
    from lightning_cnn.sweep.figures import Setting

    distribution = next(trial.distributions[name] for trial in trials if name in trial.params)
    form = _word if isinstance(distribution, CategoricalDistribution) else float
    values = [form(trial.params[name]) if name in trial.params else None for trial in trials]
    return Setting(values, is_log=getattr(distribution, "log", False))


def _table(best: Sequence[FrozenTrial]) -> list[str]:
    """The best trials in lines, and what they had."""
    names = _names(best)
    rows = [["trial", "val/acc", *_short(names), "time"]]
    for trial in best:
        settings = _settings(trial)
        values = [_figure(settings[name]) if name in settings else "–" for name in names]
        seconds = f"{trial.user_attrs['seconds']:.0f} s" if "seconds" in trial.user_attrs else "–"
        rows.append([str(_number(trial)), f"{100 * _accuracy(trial):.2f} %", *values, seconds])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(word.rjust(width) for word, width in zip(row, widths, strict=True)) for row in rows]
    return [*lines, ""] if best else []


def _short(names: Sequence[str]) -> list[str]:
    """The last words of each name, as many as tell it from the others."""
    known = Counter(end for name in names for end in _ends(name))
    return [next((end for end in _ends(name) if known[end] == 1), name) for name in names]


def _ends(name: str) -> list[str]:
    """The ends of a name in dots, the shortest first."""
    words = name.split(".")
    return [".".join(words[-n:]) for n in range(1, len(words) + 1)]


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else _word(value)


def _repetitions(trials: Sequence[FrozenTrial]) -> list[str]:
    """What repeated runs come to on average."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    tested = [trial for trial in complete if "test/acc" in trial.user_attrs]
    lines = []
    if complete:
        lines.append(_average("val/acc ", complete, [_accuracy(trial) for trial in complete]))
    if tested:
        lines.append(_average("test/acc", tested, [trial.user_attrs["test/acc"] for trial in tested]))
    return [*lines, ""] if lines else []


def _average(name: str, trials: Sequence[FrozenTrial], accuracies: Sequence[float]) -> str:
    """Mean ± standard deviation of runs, and the interval of the mean.

    Of seeds and folds both, the runs on one fold are averaged first: all of them were measured on the same images, and
    taking them for independent would make the interval far too narrow.
    """
    by_fold = defaultdict(list)
    for trial, accuracy in zip(trials, accuracies, strict=True):
        by_fold[_settings(trial).get("data.fold")].append(accuracy)
    is_folded = None not in by_fold
    result = estimate([fmean(fold) for fold in by_fold.values()] if is_folded else accuracies)
    what = _count(result.n, "fold" if is_folded else "seed")
    if len(trials) > result.n:
        what += f", {_count(len(trials), 'run')}"
    if result.n == 1:
        return f"{name} {100 * result.mean:.2f} % ({what})"
    rough = "rough " if is_folded else ""
    return (
        f"{name} {100 * result.mean:.2f} ± {100 * result.deviation:.2f} % ({what}; {rough}95 % confidence interval of "
        f"the mean {100 * result.low:.2f} to {100 * result.high:.2f} %)"
    )


def _overview(folder: Path, trials: Sequence[FrozenTrial]) -> list[str]:
    """How the trials ended, and where all of it is."""
    states = Counter(_states(trials))
    again = states.pop("tried again", 0)
    ended = ", ".join(f"{n} {state}" for state, n in states.items())
    written = ", ".join(name for name in (TABLE, *PICTURES) if (folder / name).is_file())
    return [
        f"Trials:     {ended}" + (f" (after {_count(again, 'attempt')} cut short)" if again else ""),
        f"Results:    {written} in {folder}",
        f"Look at it: tensorboard --logdir {quote(str(folder))}",
    ]


def _ways_on(folder: Path, best: Sequence[FrozenTrial]) -> list[str]:
    """What can be done with the best trial."""
    if not best:
        return []
    return [f"Train best: lightning-cnn fit --config {quote(str(folder / BEST))}"]


def _count(n: int, one: str) -> str:
    return f"{n} {one}" if n == 1 else f"{n} {one}s"
