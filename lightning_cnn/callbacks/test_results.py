"""What a test leaves behind: its figures and every single prediction."""

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.callbacks.predictions import Predictions, PredictionsCallback, Stage
from lightning_cnn.callbacks.run_folder import data_record
from lightning_cnn.data import ImageDataModule
from lightning_cnn.errors import UserError
from lightning_cnn.files import replacing, sha256

METRICS = "test_metrics.json"
PREDICTIONS = "test_predictions.csv"


class TestResults(PredictionsCallback):
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
        """Look whether there is a place for the results.

        Raises:
            UserError: If nothing can be written in the folder.
        """
        if not os.access(self.folder, os.W_OK):
            raise UserError(
                f"the results belong into {self.folder}, which is not writable; test a copy of the checkpoint"
            )
        super().on_test_start(trainer, pl_module)

    def on_predictions(
        self, trainer: Trainer, pl_module: LightningModule, stage: Stage, predictions: Predictions
    ) -> None:
        """Write both files, whole or not at all."""
        datamodule = getattr(trainer, "datamodule", None)
        assert isinstance(datamodule, ImageDataModule)
        self._write_predictions(predictions, datamodule.class_names)
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
        record = {
            **metrics,
            "images": len(predictions),
            "class_names": list(datamodule.class_names),
            "checkpoint": str(self.checkpoint),
            "checkpoint_sha256": sha256(self.checkpoint),
            "data": data_record(datamodule),
        }
        with replacing(self.folder / METRICS) as path:
            path.write_text(json.dumps(record, indent=2) + "\n")
        self.summary = (
            f"Test accuracy: {100 * metrics['test/acc']:.2f} % of {len(predictions):,} images"
            f"{self._in_training()}\n"
            f"Written: {self.folder / METRICS}, {self.folder / PREDICTIONS}"
        )

    def _write_predictions(self, predictions: Predictions, names: Sequence[str]) -> None:
        rows = zip(
            predictions.targets.tolist(),
            predictions.predicted.tolist(),
            predictions.confidence.tolist(),
            predictions.losses.tolist(),
            strict=True,
        )
        with replacing(self.folder / PREDICTIONS) as path, path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("index", "true", "predicted", "confidence", "loss"))
            for index, (true, predicted, confidence, loss) in enumerate(rows):
                writer.writerow((index, names[true], names[predicted], f"{confidence:.6f}", f"{loss:.6f}"))

    def _in_training(self) -> str:
        """What training reported for the same weights, where the checkpoint says it."""
        return "" if self._val_acc is None else f" (validation accuracy in training: {100 * self._val_acc:.2f} %)"
