"""What a test leaves behind: its figures and every single prediction."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.callbacks.run_folder import data_record
from lightning_cnn.data import ImageDataModule
from lightning_cnn.errors import UserError
from lightning_cnn.files import replacing

METRICS = "test_metrics.json"
PREDICTIONS = "test_predictions.csv"


class TestResults(Callback):
    """Writes `test_metrics.json` and `test_predictions.csv` beside the tested checkpoint and sums them up in `summary`.

    Args:
        folder: Where to write.
        checkpoint: The tested file, to be named in the results.
    """

    __test__ = False  # the name begins like a test's, and pytest would collect it

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        self.folder = folder
        self.checkpoint = checkpoint
        self.summary = ""
        self._val_acc: float | None = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember what training reported for the weights."""
        self._val_acc = checkpoint[checkpoints.KEY]["metrics"].get("val/acc")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the predictions of an earlier test.

        Raises:
            UserError: If nothing can be written in the folder.
        """
        if not os.access(self.folder, os.W_OK):
            raise UserError(
                f"the results belong into {self.folder}, which is not writable; test a copy of the checkpoint"
            )
        self._targets: list[torch.Tensor] = []
        self._probabilities: list[torch.Tensor] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep true labels and predicted probabilities."""
        assert isinstance(outputs, torch.Tensor)
        self._targets.append(batch[1].cpu())
        self._probabilities.append(outputs.float().softmax(dim=1).cpu())

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write both files, whole or not at all."""
        datamodule = getattr(trainer, "datamodule", None)
        assert isinstance(datamodule, ImageDataModule)
        targets, probabilities = _of_all_processes(trainer, torch.cat(self._targets), torch.cat(self._probabilities))
        if not trainer.is_global_zero:
            return
        confidence, predicted = probabilities.max(dim=1)
        names = datamodule.class_names
        guesses = zip(targets.tolist(), predicted.tolist(), confidence.tolist(), strict=True)
        with replacing(self.folder / PREDICTIONS) as path, path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("index", "true", "predicted", "confidence"))
            for index, (true, guess, share) in enumerate(guesses):
                writer.writerow((index, names[true], names[guess], f"{share:.6f}"))
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        record = {
            **metrics,
            "images": len(targets),
            "checkpoint": str(self.checkpoint),
            "data": data_record(datamodule),
        }
        with replacing(self.folder / METRICS) as path:
            path.write_text(json.dumps(record, indent=2) + "\n")
        self.summary = (
            f"Test accuracy: {100 * metrics['test/acc']:.2f} % of {len(targets):,} images"
            f"{self._in_training()}\n"
            f"Written: {self.folder / METRICS}, {self.folder / PREDICTIONS}"
        )

    def _in_training(self) -> str:
        """What training reported for the same weights, where the checkpoint says it."""
        return "" if self._val_acc is None else f" (validation accuracy in training: {100 * self._val_acc:.2f} %)"


def _of_all_processes(trainer: Trainer, *shares: torch.Tensor) -> list[torch.Tensor]:
    """Put the shares of all processes together: of N processes, each has every N-th image."""
    if trainer.world_size == 1:
        return list(shares)
    gathered: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(gathered, shares)
    whole = []
    for parts in zip(*gathered, strict=True):
        joined = torch.empty(sum(map(len, parts)), *parts[0].shape[1:], dtype=parts[0].dtype)
        for rank, part in enumerate(parts):
            joined[rank :: trainer.world_size] = part
        whole.append(joined)
    return whole
