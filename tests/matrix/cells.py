"""One cell of the matrix: a member of Lightning through fit, a stop in the middle of an epoch, resume and test."""

import contextlib
import os
import re
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from datetime import timedelta
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import torch
from chaos.common import command, tiny_datasets
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from matrix.members import Member

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.classifiers import FastCNNClassifier, ImageClassifier
from lightning_cnn.config.yaml import dump
from lightning_cnn.data import MNISTDataModule

SAME = "same weights"
#: Two epochs of six steps.
TRAINER = {
    "accelerator": "cpu",
    "max_epochs": 2,
    "precision": "32-true",
    "log_every_n_steps": 2,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
MODEL = {"channels": 2, "hidden": 4}
DATA = {"batch_size": 32, "eval_batch_size": 10, "val_size": 20}
#: The settings that a member excludes, by the end of its name.
_EXCLUDED = {
    "Precision": ["precision"],
    "ProgressBar": ["enable_progress_bar"],
    "ModelSummary": ["enable_model_summary"],
    "barebones": ["log_every_n_steps", "enable_progress_bar", "enable_model_summary", "num_sanity_val_steps"],
}
Weights = dict[str, torch.Tensor]


@contextlib.contextmanager
def isolated(folder: Path) -> Iterator[None]:
    """Run in a folder, and undo what a run changes in the process."""
    folder.mkdir(parents=True)
    signals = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    deterministic = torch.are_deterministic_algorithms_enabled()
    with contextlib.chdir(folder), mock.patch.dict(os.environ), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for signum, handler in signals.items():
                signal.signal(signum, handler)
            torch.use_deterministic_algorithms(deterministic)
            torch.autograd.set_detect_anomaly(False)


def is_stop(trainer: Trainer, batch: int) -> bool:
    """Whether a run is to stop before this batch: in the middle of its second epoch."""
    return trainer.current_epoch == 1 and batch == 2


def _beside(member: Member) -> dict[str, Any]:
    """Return the settings of the Trainer besides those of a member."""
    excluded = [name for end, names in _EXCLUDED.items() if member.name.endswith(end) for name in names]
    return {name: value for name, value in TRAINER.items() if name not in excluded}


# From the command line


def from_command_line(member: Member) -> str:
    """Return what becomes of a member; the current folder must be empty."""
    trained, line = _fit("straight", member)
    if line:
        return f"refused: {line}"
    with mock.patch.object(ImageClassifier, "on_train_batch_start", _terminate, create=True):
        stopped, line = _fit("stopped", member)
    if stopped is None or trained is None:
        return "no run folder"
    if not line:
        return "ends before the stop"
    status, errors = command("fit", stopped, "--trainer.default_root_dir", "stopped")
    if status and (advice := re.search(r"add (--config \S+)$", _last_line(errors))):
        status, errors = command("fit", stopped, "--trainer.default_root_dir", "stopped", *advice.group(1).split())
    if status:
        return f"resume: {_last_line(errors)}"
    for name in ("best", "last"):
        if (difference := _difference(*(_weights(run, name) for run in (trained, stopped)))) is not None:
            return f"other weights in {name}.ckpt ({difference})"
    status, errors = command("test", stopped / "checkpoints" / "last.ckpt", "--plots.enabled", "false")
    return f"test: {_last_line(errors)}" if status else SAME


def _fit(root: str, member: Member) -> tuple[Path | None, str]:
    """Return the run folder, if there is one, and the line of an error, if there was one."""
    settings = {
        "seed_everything": 0,
        "trainer": {**_beside(member), "default_root_dir": root, **member.settings},
        "model": {"class_path": "FastCNNClassifier", "init_args": MODEL},
        "data": {"class_path": "MNISTDataModule", "init_args": {**DATA, "data_dir": "../data"}},
        "plots": {"enabled": False},
        "dashboard": {"enabled": False},
    }
    status, errors = command("fit", "--config", dump(settings))
    runs = sorted(Path().glob("*/mnist-fast_cnn/version_0"), key=lambda run: run.stat().st_mtime)
    return runs[-1] if runs else None, _last_line(errors) if status else ""


def _terminate(module: LightningModule, batch: object, batch_idx: int) -> None:
    if is_stop(module.trainer, batch_idx):
        signal.raise_signal(signal.SIGTERM)


def _last_line(errors: str) -> str:
    return errors.strip().rpartition("\n")[2].removeprefix("lightning-cnn: ").removeprefix("error: ")


def _weights(run: Path, name: str) -> Weights:
    path = run / "checkpoints" / f"{name}.ckpt"
    return checkpoints.read(path)["state_dict"] if path.is_file() else {}


def _difference(first: Weights, second: Weights) -> str | None:
    """Return the largest difference of two sets of weights, None if they are equal in every bit."""
    if first.keys() != second.keys():
        return "not the same layers"
    if all(torch.equal(first[name], second[name]) for name in first):
        return None
    return f"{max((first[name] - second[name]).abs().max().item() for name in first):.0e}"


# From Python


class Stopped(Exception):  # noqa: N818  # not an error
    """A run is stopped."""


class Stop(Callback):
    """Stops a run."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if is_stop(trainer, batch_idx):
            raise Stopped


def from_python(member: Member) -> str:
    """Return what becomes of a member with Lightning's Trainer and our classifier and data."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        trained, _ = _train(member, "straight")
        with contextlib.suppress(Stopped):
            _train(member, "stopped", Stop())
            return "ends before the stop"
        last = Path("stopped/last.ckpt")
        if not last.is_file():
            return "no checkpoint"
        resumed, trainer = _train(member, "stopped", ckpt_path=last)
        if (difference := _difference(trained.state_dict(), resumed.state_dict())) is not None:
            return f"other weights ({difference})"
        trainer.test(resumed, datamodule=trainer.datamodule)
    return SAME


def _train(
    member: Member, folder: str, *callbacks: Callback, ckpt_path: Path | None = None
) -> tuple[LightningModule, Trainer]:
    seed_everything(0)
    options = {**_beside(member), **{name: _built(value) for name, value in deepcopy(member.settings).items()}}
    steps = ModelCheckpoint(folder, save_last=True, every_n_train_steps=1, save_top_k=0)
    options["callbacks"] = [*callbacks, *options.get("callbacks", []), steps]
    trainer = Trainer(**options)
    model = FastCNNClassifier(**MODEL)
    trainer.fit(model, datamodule=MNISTDataModule("../data", **DATA), ckpt_path=ckpt_path)
    return model, trainer


def _built(value: Any) -> Any:
    """Return a value of a config with its classes and functions built."""
    if isinstance(value, dict) and "class_path" in value:
        arguments = {name: _built(item) for name, item in value.get("init_args", {}).items()}
        return _imported(value["class_path"])(**arguments)
    if isinstance(value, list):
        return [_built(item) for item in value]
    if isinstance(value, str) and re.fullmatch(r"\d:\d\d:\d\d", value):
        hours, minutes, seconds = map(int, value.split(":"))
        return timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return _imported(value) if value in ("builtins.len", "torch.bfloat16") else value


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


# Both

#: Seconds after which a cell counts as hanging.
_TIMEOUT = 120
MODES: dict[str, Callable[[Member], str]] = {"command line": from_command_line, "Python": from_python}


def _raise_timeout(*_: object) -> NoReturn:
    raise TimeoutError(f"no end after {_TIMEOUT} s")


#: Cells that would crash this process: torch's profiler does, when an exception ends a training with it.
_CRASHES = {("PyTorchProfiler", "Python"), ("profiler", "Python")}


def run(member: Member, mode: str, folder: Path) -> str:
    """Return the outcome of a cell in one line; the folder above `folder` is that of the data."""
    if (member.name, mode) in _CRASHES and "torch" in str(member):
        return "not tried: torch's profiler crashes after an exception"
    with tiny_datasets(folder.parent / "data"), isolated(folder):
        signal.signal(signal.SIGALRM, _raise_timeout)
        signal.alarm(_TIMEOUT)
        try:
            outcome = MODES[mode](member)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # it is the outcome
            outcome = f"{type(error).__name__}: {' '.join(str(error).split())}"
        finally:
            signal.alarm(0)
    outcome = re.sub(r" at 0x[0-9a-f]+", "", outcome).replace(str(folder), "…")
    return outcome if len(outcome) <= 200 else f"{outcome[:199]}…"
