"""The page about one run."""

import math
from collections.abc import Mapping
from shlex import quote

from lightning_cnn.report import figures
from lightning_cnn.report.figures import EmbeddedImage
from lightning_cnn.report.summary import RunSummary, setting
from lightning_cnn.report.template import NOT_RECORDED, count, render

MISTAKES = 20
#: Of more epochs every second, third, … is shown.
MAX_EPOCH_ROWS = 100
#: Of more classes the first are shown.
MAX_CLASS_ROWS = 1000
_MORE_EPOCHS = 5
_ENVIRONMENT = {
    "processor": "Processor",
    "device": "Device",
    "processes": "Processes",
    "threads": "Threads",
    "platform": "System",
    "python": "Python",
    "git_revision": "Git revision of lightning_cnn",
    "working_directory_revision": "Git revision of the working directory",
    "seed": "Seed",
}


def run_page(run: RunSummary, label: str) -> str:
    """Return the page about a run.

    Args:
        run: The run.
        label: Its name on the page.
    """
    predictions = run.test.predictions if run.test else None
    return render(
        "run.html",
        run=run,
        label=label,
        predictions=predictions,
        history=figures.history(run),
        confusion_matrix=predictions and figures.confusion_matrix(predictions),
        calibration=predictions and figures.calibration(predictions),
        shown=_shown(run),
        epochs=_epochs(run),
        mistakes=predictions.worst_mistakes(MISTAKES).tolist() if predictions else [],
        environment=_environment(run),
        commands=_commands(run),
        config=run.config_text,
        classes=predictions.per_class[:MAX_CLASS_ROWS] if predictions else [],
    )


def _shown(run: RunSummary) -> dict[str, EmbeddedImage]:
    """Return the figures that the run itself has drawn."""
    wrong = ""
    if run.test and run.test.predictions:
        correct = run.test.predictions.correct
        wrong = f"; {(~correct).sum():,} of all {count(len(correct), 'test image')} are wrong"
    alts = {
        "samples": f"Training images of {run.dataset} as the network sees them, each under its class.",
        "predictions": f"The first test images with true and predicted class{wrong}.",
        "mistakes": f"The worst mistakes, with true and predicted class{wrong}.",
    }
    return {name: figures.embed_png(content, alts[name]) for name, content in run.figures.items()}


def _epochs(run: RunSummary) -> list[tuple[int, list[tuple[str, float]]]]:
    """Return number and metrics of epochs: all or, of very many, some at equal distances, the best and the last."""
    count = len(run.history)
    step = max(1, math.ceil(count / MAX_EPOCH_ROWS))
    rows = {*range(step - 1, count, step), count - 1 if run.best is None else run.best, count - 1} - {-1}
    names = [*dict.fromkeys(["train/loss", "train/acc", "val/loss", "val/acc", run.monitor])]
    return [
        (int(run.history.epochs[row]) + 1, [(name, float(run.history.metrics[name][row])) for name in names])
        for row in sorted(rows)
    ]


def _environment(run: RunSummary) -> list[tuple[str, str]]:
    """Return the rows of the table of machine and versions, the best-known ones first."""
    record = {**run.environment, "seed": run.environment.get("seed", run.seed)}
    versions = record.pop("versions", None)
    record.pop("parameters", None)  # stands at the top of the page
    rows = [(title, record.pop(key, None)) for key, title in _ENVIRONMENT.items()] + sorted(record.items())
    if isinstance(versions, Mapping):
        rows += sorted(versions.items())
    return [(str(title), NOT_RECORDED if value is None else str(value)) for title, value in rows]


def _commands(run: RunSummary) -> dict[str, str]:
    """Return the command lines that test and resume the run, as far as its checkpoints allow it."""
    folder = quote(str(run.folder))
    commands = {}
    if "best" in run.checkpoints:
        commands["Test"] = f"lightning-cnn test --ckpt_path {folder}"
    if "last" in run.checkpoints and run.epochs:
        planned = setting(run.config, "trainer", "max_epochs")
        resume = f"lightning-cnn fit --ckpt_path {folder}"
        if isinstance(planned, int) and run.epochs < planned:
            commands["Resume"] = resume
        elif not str(setting(run.config, "model", "init_args", "scheduler", "class_path")).endswith("OneCycleLR"):
            commands["Train further"] = f"{resume} --trainer.max_epochs {run.epochs + _MORE_EPOCHS}"
    return commands
