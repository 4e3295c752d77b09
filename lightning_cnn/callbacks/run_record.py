"""The folder of a run: what was asked for, which data answered, and a checkpoint that knows both."""

import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.data import ImageDataModule
from lightning_cnn.environment import job_id, processor_name
from lightning_cnn.files import atomic_write

ENVIRONMENT = "environment.json"
#: What must stay the same for the same bits: other machines, devices and versions round differently.
_SAME_BITS = ("processor", "device", "processes", "threads", "versions")


class RunRecord(Callback):
    """Writes `config.yaml`, `environment.json` and `data.json`, and puts the whole config into every checkpoint.

    Args:
        folder: The run folder; None in all processes but the first, which tells it to them.
        config: The parsed configuration as plain types.
    """

    def __init__(self, folder: Path | None, config: dict[str, Any]) -> None:
        self.folder = folder
        self.config = config

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell the folder to all processes."""
        self.folder = trainer.strategy.broadcast(self.folder)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write down what is known before the first step: not earlier, when a resumed run could still be refused."""
        assert self.folder is not None
        if not trainer.is_global_zero:
            return
        with atomic_write(self.folder / "config.yaml") as path:
            path.write_text(yaml.safe_dump(self.config, sort_keys=False))
        self._write_environment(environment_record(trainer, pl_module))
        datamodule = getattr(trainer, "datamodule", None)
        if isinstance(datamodule, ImageDataModule) and datamodule.raw is not None:
            _write_json(self.folder / "data.json", data_record(datamodule))

    def _write_environment(self, record: dict[str, Any]) -> None:
        """Write on what the run runs; what it ran on before, if that was something else, is kept beside it."""
        assert self.folder is not None
        path = self.folder / ENVIRONMENT
        if path.is_file():
            before = json.loads(path.read_text())
            earlier = before.pop("earlier", [])
            changed = [name for name in _SAME_BITS if before.get(name) != record[name]]
            for name in changed:
                rank_zero_info(f"Not to the bit what it would have been: {name} {before.get(name)} → {record[name]}")
            record["earlier"] = [*earlier, before] if changed else earlier
        _write_json(path, record)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let the checkpoint describe itself with all that the user gave, beyond what the model knows of itself."""
        checkpoint[checkpoints.KEY] = {**checkpoints.describe(pl_module), "config": self.config}


def data_record(datamodule: ImageDataModule) -> dict[str, Any]:
    """Return which data the run has seen, in plain types."""
    raw = datamodule.raw
    assert raw is not None
    return {"dataset": datamodule.facts.title, "origin": raw.origin, "sample": raw.is_sample}


def environment_record(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """Return on what the run has run, in plain types: whoever repeats it needs the same for the same figures."""
    seed = os.environ.get("PL_GLOBAL_SEED")  # where Lightning keeps the seed of the run
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "device": _device_name(pl_module.device),
        "processes": trainer.world_size,
        "threads": torch.get_num_threads(),
        "seed": None if seed is None else int(seed),
        "git_revision": _git_revision(),
        "job": job_id() or None,
        "parameters": sum(parameter.numel() for parameter in pl_module.parameters()),
        "versions": checkpoints.describe(pl_module)["versions"],
    }


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _git_revision() -> str | None:
    """The commit of the working folder, with `-dirty` if files are changed; None where there is no git or commit."""
    git = shutil.which("git")
    if git is None:
        return None
    describe = [git, "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
    done = subprocess.run(describe, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
