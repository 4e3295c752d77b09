"""The figures of a search: Optuna's own, with readable axes and with pruned trials. Used by `results`."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.category import StrCategoryLocator
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray
from optuna import Study
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import TrialState
from optuna.visualization.matplotlib import plot_optimization_history, plot_param_importances, plot_slice

from lightning_cnn.files import atomic_write
from lightning_cnn.sweep.tasks import has_diverged

#: The minimum of complete trials for importances. In twelve searches with one setting that mattered and three that did
#: not, the most important one was right in ten after ten trials, and in all after fifteen.
_MIN_TRIALS = 10
#: The best quarter is compared with all trials; with Optuna's default, the best tenth, it was right in four.
_QUANTILE = 0.25
#: Ticks of a metric from 0 to 1 on a scale of its error, which ends at the smallest error.
_TICKS = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
_SMALLEST_ERROR = 1e-4


def write_figures(study: Study, folder: Path, monitor: str, is_share: bool) -> None:
    """Draw `history.png`, `settings.png` and `importance.png` as far as there are trials for them; delete old ones.

    Args:
        study: The study.
        folder: The folder of the sweep.
        monitor: The metric of the trials.
        is_share: Whether it is a share, from 0 to 1.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    n_settings = len({name for trial in complete for name in trial.params})
    with warnings.catch_warnings(), plt.rc_context({"figure.figsize": (8, 4.5)}):
        warnings.simplefilter("ignore")  # Optuna's of experimental functions, few trials and single values
        plt.switch_backend("Agg")
        _save(_history(study, monitor, is_share) if complete else None, folder / "history.png")
        _save(_settings(study, monitor, is_share) if n_settings else None, folder / "settings.png")
        is_enough = len(complete) >= _MIN_TRIALS and n_settings > 1
        _save(_importance(study, len(complete)) if is_enough else None, folder / "importance.png")


def _history(study: Study, monitor: str, is_share: bool) -> Axes:
    """Draw the metric of each trial, and the best so far."""
    axes = plot_optimization_history(study, target_name=monitor)
    pruned = study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
    points = [(trial.number, trial.value) for trial in pruned if trial.value is not None and not has_diverged(trial)]
    if points:
        axes.scatter(*zip(*points, strict=True), marker="x", color="#D55E00", label="pruned (last value)")
    axes.set(title=f"{monitor} of each trial", xlabel="trials in the order of their start")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)
    _scale([axes], [*_values(study), *(value for _, value in points)], is_share)
    return axes


def _settings(study: Study, monitor: str, is_share: bool) -> Axes:
    """Draw the metric of complete trials over each setting."""
    panels: list[Axes] = [*np.ravel(np.array(plot_slice(study, target_name=monitor)))]
    for axes in panels:
        axes.set_title("")
        axes.set_xlabel(axes.get_xlabel(), fontsize="small", parse_math=False)
        axes.margins(x=0.1)
        axes.autoscale(axis="x")  # also of a single value
        if axes.get_xscale() == "log":
            axes.xaxis.set_minor_formatter(NullFormatter())
        elif isinstance(axes.xaxis.get_major_locator(), StrCategoryLocator):
            names = axes.xaxis.get_major_formatter().format_ticks([*axes.get_xticks()])
            short = [name.strip("'").rpartition(".")[2] for name in names]
            axes.set_xticks(range(len(names)), short, rotation=20, ha="right", parse_math=False)
    panels[0].figure.suptitle(f"{monitor} of complete trials over each setting")
    _scale(panels, _values(study), is_share)
    return panels[0]


def _importance(study: Study, n: int) -> Axes:
    """Draw the importance of each setting, estimated from `n` trials."""
    axes = plot_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=_QUANTILE))
    axes.set_title(f"What distinguishes the best quarter of {n} trials", loc="left")
    axes.set(xlabel="importance (PED-ANOVA); all together 1", ylabel="")
    axes.legend().remove()
    return axes


def _values(study: Study) -> list[float]:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [trial.value for trial in complete if trial.value is not None]


def _scale(panels: Sequence[Axes], values: Sequence[float], is_share: bool) -> None:
    """Scale by the magnitude of the error where it differs much, so that a bad trial does not flatten all others."""
    errors = [max(1 - value, _SMALLEST_ERROR) if is_share else value for value in values]
    is_wide = 0 < 5 * min(errors) < max(errors)
    for axes in panels:
        if is_wide and is_share:
            axes.set_yscale("function", functions=(_magnitude, lambda magnitude: 1 - 10.0**-magnitude))
            axes.yaxis.set_major_locator(FixedLocator(_TICKS))
        elif is_wide:
            axes.set_yscale("log")
        if is_share:
            axes.yaxis.set_major_formatter(PercentFormatter(1))


def _magnitude(share: NDArray[np.float64]) -> NDArray[np.float64]:
    magnitude: NDArray[np.float64] = -np.log10(np.maximum(1 - share, _SMALLEST_ERROR))
    return magnitude


def _save(axes: Axes | None, path: Path) -> None:
    if axes is None:
        path.unlink(missing_ok=True)
        return
    plt.sca(axes)
    with atomic_write(path) as temporary:
        plt.savefig(temporary, format="png", dpi=120, bbox_inches="tight")
    plt.close()
