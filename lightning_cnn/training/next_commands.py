"""What the user is told that can be done with a run: the commands that resume, test and view it."""

from pathlib import Path
from shlex import quote

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.config.classes import trusted_class
from lightning_cnn.run import Run


def resume_hint(run: Run, first_step: int | None, flags: str) -> str:
    """Return how to resume a run that was stopped, to follow the message that it was.

    Args:
        run: The run.
        first_step: The step that it was resumed from, if it was.
        flags: The flags to repeat, such as those of `user_classes`.
    """
    last = run.checkpoint("last")
    if not last.is_file():
        return " before the first checkpoint"
    step = checkpoints.read(last)["global_step"]
    if step == first_step:
        return " before the next checkpoint; give the same command again"
    return f"; resume from step {step} with: {program(flags)} fit {quote(str(run.folder))}{flags}"


def user_classes(model: object, datamodule: object) -> str:
    """Return the flags that name classes and functions from outside, which no checkpoint is trusted to name."""
    classes = {"model": type(model), "data": type(datamodule)}
    paths = {
        name: f"{cls.__module__}.{cls.__qualname__}"
        for name, cls in classes.items()
        if cls.__module__.partition(".")[0] != "lightning_cnn"
    }
    if isinstance(model, ImageClassifier):
        parts = {"loss": model.loss} | {f"metrics.{name}": m for name, m in model.train_metrics.others.items()}
        named = {name: f"{type(part).__module__}.{type(part).__qualname__}" for name, part in parts.items() if part}
        if model.network_config is not None:
            named = {"network": model.network_config["class_path"], **named}
        has_own = type(model) is not ImageClassifier  # which it builds itself
        paths |= {
            f"model.{name}": path
            for name, path in named.items()
            if trusted_class(path, (object,), (), builders=True) is None and not (has_own and name == "network")
        }
    return "".join(f" --{name} {path}" for name, path in paths.items())


def program(flags: str) -> str:
    """Return how to call this command: `python -m` finds classes of the user's in the current folder."""
    has_classes = any(flag.startswith(("--model", "--data", "--config")) for flag in flags.split())
    return "python -m lightning_cnn" if has_classes else "lightning-cnn"


def summary(
    run: Run, classes: str, is_finished: bool, is_tested: bool, average: Path | None = None, monitor: str = "val/acc"
) -> str:
    """Return where the files of a run are after training, and the commands to test and view it.

    Args:
        run: The run.
        classes: The flags of `user_classes`.
        is_finished: Whether nothing was left to train.
        is_tested: Whether the run is tested next anyway.
        average: The checkpoint with the average of the weights, if there is one.
        monitor: The metric that decides which checkpoint is the best.
    """
    lines = [f"Run folder: {run.folder}"]
    if is_finished:
        lines.append("Finished:   nothing left to train; raise --trainer.max_epochs to train longer")
    best, last = run.checkpoint("best"), run.checkpoint("last")
    if last.is_file() and not best.is_file():
        lines.append("No best:    there is no best.ckpt, because nothing was validated")
    if best.is_file() and monitor != "val/acc" and (value := _value(best, monitor)):
        lines.append(f"Best:       {best} ({value})")
    if average is not None:
        values = [value for name in dict.fromkeys(("val/acc", monitor)) if (value := _value(average, name))]
        shown = f" ({', '.join(values)})" if values else ""
        lines.append(f"Averaged:   {average}{shown}; the other checkpoints have the weights without averaging")
    kept = average or (best if best.is_file() else last)
    if kept.is_file() and not is_tested:
        lines.append(f"Test it:    {program(classes)} test {quote(str(kept))}{classes}")
    lines.append(f"Look at it: tensorboard --logdir {quote(str(run.folder.parent.parent))}")
    return "\n".join(lines)


def _value(checkpoint: Path, metric: str) -> str:
    """Return the value of a metric in a checkpoint with its name; nothing if it has none."""
    value = checkpoints.read_description(checkpoint)["metrics"].get(metric)
    return "" if value is None else f"{metric} {value:.4f}"
