"""What has become of a trial."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from lightning_cnn.errors import UserError
from lightning_cnn.sweep import trial_process as processes
from lightning_cnn.sweep.space import Value, flag


@dataclass(frozen=True)
class Outcome:
    """What became of a trial.

    Attributes:
        state: How it has ended.
        accuracy: Its highest accuracy on the validation images, 0 to 1, if it is complete.
        attributes: What else to keep: its config, its error, its accuracy on the test images.
        is_refused: Whether `fit` did not accept its settings.
    """

    state: TrialState
    accuracy: float | None
    attributes: dict[str, Any]
    is_refused: bool = False


def outcome_of(process: processes.TrialProcess, folder: Path, was_pruned: bool) -> Outcome:
    """Return what became of a trial whose process has ended; `folder` is that of the trial."""
    run = processes.run_folder(folder)
    attributes: dict[str, Any] = {} if run is None else {"config": processes.read_config(run)}
    if was_pruned:
        return Outcome(TrialState.PRUNED, None, attributes)
    if process.status != 0:
        attributes["error"] = process.last_words()
        return Outcome(TrialState.FAIL, None, attributes, is_refused=process.status == UserError.exit_status)
    accuracies = [] if run is None else [accuracy for _, accuracy in processes.accuracies(run)]
    if run is None or not accuracies:
        attributes["error"] = "there is no val/acc, because nothing was validated"
        return Outcome(TrialState.FAIL, None, attributes)
    if (tested := processes.accuracy_in_test(run)) is not None:
        attributes["test/acc"] = tested
    return Outcome(TrialState.COMPLETE, max(accuracies), attributes)


def line_of(trial: FrozenTrial) -> str:
    """What a trial has come to, for people."""
    known = trial.user_attrs
    accuracy = trial.value if trial.value is not None else max(trial.intermediate_values.values(), default=None)
    settings = " ".join(f"{name.rpartition('.')[2]}={_short(value)}" for name, value in known["settings"].items())
    parts = [
        f"trial {known['number']}",
        "failed" if trial.state == TrialState.FAIL else trial.state.name.lower(),
        "" if accuracy is None else f"val/acc {100 * accuracy:.2f} %",
        f"test/acc {100 * known['test/acc']:.2f} %" if "test/acc" in known else "",
        settings,
        f"{known['seconds']:.0f} s",
        known.get("error", ""),
    ]
    return "  ".join(filter(None, parts))


def _short(value: Value) -> str:
    """A value as it is told from others at a glance: classes without their module, numbers to four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).rpartition(".")[2] if isinstance(value, str) else flag("", value).partition("=")[2]
