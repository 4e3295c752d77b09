"""What a run records about itself: config, environment and data, in its folder, its checkpoints and the loggers."""

import csv
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.callbacks.hyperparameters import hyperparameters
from lightning_cnn.callbacks.tensorboard import TensorBoard
from lightning_cnn.config import yaml
from lightning_cnn.data import ImageDataModule
from lightning_cnn.environment import job_id, processor_name
from lightning_cnn.files import atomic_write
from lightning_cnn.run import Run
from lightning_cnn.text import spreadsheet_safe, spreadsheet_safe_path
from lightning_cnn.threads import available_cores

#: What must stay the same for a bit-exact resume: other machines, devices and versions round differently.
_BIT_EXACT = ("processor", "device", "precision", "processes", "threads", "versions")


class RunRecord(Callback):
    """Writes `config.yaml`, `environment.json` and `data.json`, and puts the config into every checkpoint.

    The loggers of the trainer get the hyperparameters.

    Args:
        folder: The run folder; None on all ranks but 0, which broadcasts it.
        config: The parsed config as plain types.
    """

    def __init__(self, folder: Path | None, config: dict[str, Any]) -> None:
        self.folder = folder
        self.config = config

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Broadcast the folder."""
        self.folder = trainer.strategy.broadcast(self.folder)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the files before the first step; not earlier, because a resumed run may still be refused."""
        assert self.folder is not None
        datamodule = getattr(trainer, "datamodule", None)
        if isinstance(datamodule, ImageDataModule):
            self._record_batch_size(datamodule)
        if not trainer.is_global_zero:
            return
        run = Run(self.folder)
        with atomic_write(run.config_file) as path:
            path.write_text(yaml.dump(self.config), encoding="utf-8")
        _write_environment(run, environment_record(trainer, pl_module))
        if isinstance(datamodule, ImageDataModule) and datamodule.record is not None:
            _write_json(run.data_file, datamodule.record)
            if rows := datamodule.split_rows():
                _write_split(run.split_file, rows)
        for logger in trainer.loggers:
            logger.log_hyperparams(hyperparameters(self.config))

    def _record_batch_size(self, datamodule: ImageDataModule) -> None:
        """Put the batch sizes of the data into the config: `BatchSizeFinder` has changed one."""
        arguments = self.config.get("data", {}).get("init_args", {})
        # The attribute `batch_size` is the share of a global batch size, if there is one.
        found = {"batch_size": datamodule.hparams["batch_size"], "eval_batch_size": datamodule.eval_batch_size}
        arguments |= {name: size for name, size in found.items() if name in arguments}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Describe the checkpoint by the whole config; the model alone knows only its own."""
        checkpoint[checkpoints.KEY] = {**checkpoints.describe(pl_module), "config": self.config}


def _write_split(path: Path, rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Write file, label, part and digest of each image, as `ImageFolderDataModule` can read them again."""
    with (
        atomic_write(path) as temporary,
        # File names may hold bytes that are not text.
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(("file", "label", "split", "digest"))
        writer.writerows((spreadsheet_safe_path(file), spreadsheet_safe(label), *rest) for file, label, *rest in rows)


def environment_record(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """Return what a repetition needs besides the config, as plain types: machine, versions, seed and git revisions.

    Also where loggers of the user write, so that they go on there when the run is resumed.
    """
    seed = os.environ.get("PL_GLOBAL_SEED")  # set by Lightning's `seed_everything`
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "device": _device_name(pl_module.device),
        "precision": trainer.precision,
        "processes": trainer.world_size,
        "threads": torch.get_num_threads(),
        "cores": available_cores(),
        "seed": None if seed is None else int(seed),
        "git_revision": _project_revision(),
        "working_directory_revision": _git_revision(Path()),
        "job": job_id() or None,
        "parameters": sum(parameter.numel() for parameter in pl_module.parameters()),
        "versions": checkpoints.describe(pl_module)["versions"],
        "loggers": [
            [type(logger).__name__, logger.root_dir, logger.version]
            for logger in trainer.loggers
            if isinstance(logger, CSVLogger | TensorBoardLogger) and not isinstance(logger, TensorBoard)
        ],
    }


def _write_environment(run: Run, record: dict[str, Any]) -> None:
    """Write the environment; `earlier` keeps those in which a resumed run was trained before."""
    if before := run.read_environment():
        earlier = before.pop("earlier", [])
        if changed := [name for name in _BIT_EXACT if before.get(name, record[name]) != record[name]]:
            changes = ", ".join(f"{name} {before.get(name)} → {record[name]}" for name in changed)
            rank_zero_info(f"Resume is not bit-exact, because the environment has changed: {changes}")
        record = record | {"earlier": [*earlier, before] if before != record else earlier}
    _write_json(run.environment_file, record)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _project_revision() -> str | None:
    """Return the commit of this project; None if it is installed, for example within the repository of another one."""
    here = Path(__file__)
    return _git_revision(here.parent) if _git(here.parent, "ls-files", here.name) else None


def _git_revision(folder: Path) -> str | None:
    """Return the commit of the repository of a folder, with `-dirty` after changes; None without git or a commit."""
    return _git(folder, "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40") or None


def _git(folder: Path, *arguments: str) -> str:
    """Return what git prints of a folder; nothing without git or a repository."""
    if (git := shutil.which("git")) is None:
        return ""
    done = subprocess.run([git, "-C", folder, *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
