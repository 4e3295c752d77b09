"""The folder of a run: what was asked for, which data answered, and a checkpoint that knows both."""

import json
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.data import ImageDataModule
from lightning_cnn.errors import UserError
from lightning_cnn.files import replacing


def create(root: Path, name: str) -> Path:
    """Create and return `root/name/version_N` with the next free N; safe when several runs start at once.

    Raises:
        UserError: If it cannot be created there.
    """
    parent = root / name
    try:
        parent.mkdir(parents=True, exist_ok=True)
        taken = [int(n) for p in parent.glob("version_*") if (n := p.name.removeprefix("version_")).isdecimal()]
        version = max(taken, default=-1) + 1
        while True:
            folder = parent / f"version_{version}"
            try:
                folder.mkdir()
            except FileExistsError:  # another run was faster
                version += 1
            else:
                return folder
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(
            f"no run folder can be made in {root} ({reason}); give another with --trainer.default_root_dir"
        ) from error


class RunFolder(Callback):
    """Writes `config.yaml` and `data.json`, and puts the whole config into every checkpoint.

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
        with replacing(self.folder / "config.yaml") as path:
            path.write_text(yaml.safe_dump(self.config, sort_keys=False))
        datamodule = getattr(trainer, "datamodule", None)
        if isinstance(datamodule, ImageDataModule) and datamodule.raw is not None:
            with replacing(self.folder / "data.json") as path:
                path.write_text(json.dumps(data_record(datamodule), indent=2) + "\n")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let the checkpoint describe itself with all that the user gave, beyond what the model knows of itself."""
        checkpoint[checkpoints.KEY] = {**checkpoints.describe(pl_module), "config": self.config}


def data_record(datamodule: ImageDataModule) -> dict[str, Any]:
    """Return which data the run has seen, in plain types."""
    raw = datamodule.raw
    assert raw is not None
    return {"dataset": datamodule.facts.title, "origin": raw.origin, "sample": raw.is_sample}
