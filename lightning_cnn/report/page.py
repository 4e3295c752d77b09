"""The page about a run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from shlex import quote

from lightning_cnn.report import figures as pictures
from lightning_cnn.report import words
from lightning_cnn.report.figures import Picture
from lightning_cnn.report.summary import Run
from lightning_cnn.report.template import NOT_RECORDED, render

MISTAKES = 20
#: More epochs are shown as every second, third, …
MAX_EPOCH_ROWS = 100
_MORE_EPOCHS = 5
_ENVIRONMENT = {
    "processor": "Processor",
    "device": "Device",
    "processes": "Processes",
    "threads": "Threads",
    "platform": "System",
    "python": "Python",
    "git_revision": "Git revision",
    "seed": "Seed",
}


@dataclass(frozen=True)
class Epoch:
    """A row of the table of epochs: the epoch from 1, and its figures, NaN where there are none."""

    number: int
    train_loss: float
    train_acc: float
    val_loss: float
    val_acc: float


def run_page(run: Run, label: str) -> str:
    """Return the page about a run.

    Args:
        run: The run.
        label: What the run is called.
    """
    predictions = run.predictions
    return render(
        "run.html",
        run=run,
        label=label,
        history=pictures.history(run),
        confusion_matrix=predictions and pictures.confusion_matrix(predictions),
        calibration=predictions and pictures.calibration(predictions),
        shown=_embedded(run),
        epochs=_epochs(run),
        class_rows=predictions.class_rows() if predictions else [],
        mistakes=predictions.worst_mistakes(MISTAKES) if predictions else [],
        environment=_environment(run),
        commands=_commands(run),
    )


def _embedded(run: Run) -> dict[str, Picture]:
    """The pictures that the run itself has drawn."""
    found = run.predictions
    wrong = f"; {found.wrong:,} of all {words.count(len(found), 'test image')} are wrong" if found else ""
    alts = {
        "samples": f"Training images of {run.dataset} as the network sees them, each under its class.",
        "predictions": f"The first test images with true and predicted class{wrong}.",
        "mistakes": f"The worst mistakes, with true and predicted class{wrong}.",
    }
    return {name: pictures.png(content, alts[name]) for name, content in run.pictures.items()}


def _epochs(run: Run) -> list[Epoch]:
    """The rows of the table of epochs: all, or of very many those at equal distances, with the best and the last."""
    if not run.curves:
        return []
    step = math.ceil(run.epochs / MAX_EPOCH_ROWS)
    numbers = {*range(step, run.epochs + 1, step), run.best_epoch or run.epochs, run.epochs}
    return [
        Epoch(number, **{curve: float(values[number - 1]) for curve, values in run.curves.items()})
        for number in sorted(numbers)
    ]


def _environment(run: Run) -> list[tuple[str, str]]:
    """The rows of the table of machine and versions: what is always asked for, then whatever else was recorded."""
    record = {**run.environment, "seed": run.environment.get("seed", run.seed)}
    versions = record.pop("versions", None)
    record.pop("parameters", None)  # a key figure of the page
    rows = [(title, record.pop(key, None)) for key, title in _ENVIRONMENT.items()] + sorted(record.items())
    if isinstance(versions, Mapping):
        rows += sorted(versions.items())
    return [(str(title), NOT_RECORDED if value is None else str(value)) for title, value in rows]


def _commands(run: Run) -> dict[str, str]:
    """The command lines to test the run and to go on with it, those that its checkpoints allow."""
    folder = quote(str(run.folder))
    commands = {}
    if "best" in run.checkpoints:
        commands["Test it"] = f"lightning-cnn test --ckpt_path {folder}"
    if "last" in run.checkpoints and run.epochs:  # otherwise nothing tells how far it is
        planned = run.setting("trainer", "max_epochs")
        on = f"lightning-cnn fit --ckpt_path {folder}"
        if isinstance(planned, int) and run.epochs < planned:
            commands["Finish it"] = on
        else:
            commands["Go on with it"] = f"{on} --trainer.max_epochs {run.epochs + _MORE_EPOCHS}"
    return commands
