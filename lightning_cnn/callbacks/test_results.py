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
from lightning_cnn.callbacks.run_record import data_record
from lightning_cnn.data import ImageDataModule
from lightning_cnn.errors import UserError
from lightning_cnn.files import atomic_write, sha256

METRICS = "test_metrics.json"
PREDICTIONS = "test_predictions.csv"


class TestResults(PredictionsCallback):
    """Writes `test_metrics.json` and `test_predictions.csv` beside the tested checkpoint and sums them up in `summary`.

    Results of a whole test are replaced only by those of a whole test of the same weights on the same data.

    Args:
        folder: Where to write.
        checkpoint: The tested file, to be named in the results.
        overwrite: Whether to replace any results that are there.
    """

    __test__ = False  # the name begins like a test's, and pytest would collect it

    def __init__(self, folder: Path, checkpoint: Path, overwrite: bool = False) -> None:
        self.folder = folder
        self.checkpoint = checkpoint
        self.overwrite = overwrite
        self.summary = ""
        self._val_acc: float | None = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember what training reported for the weights."""
        self._val_acc = checkpoint[checkpoints.KEY]["metrics"].get("val/acc")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look whether there is a place for the results.

        Raises:
            UserError: If nothing can be written in the folder, or what is there must not be replaced.
        """
        super().on_test_start(trainer, pl_module)
        if trainer.is_global_zero:  # which writes them
            self._prepare(trainer)

    def _prepare(self, trainer: Trainer) -> None:
        if not os.access(self.folder, os.W_OK):
            raise UserError(
                f"the results belong into {self.folder}, which is not writable; test a copy of the checkpoint"
            )
        self._test = self._describe(trainer)  # now: what is tested is loaded, and training may replace the file
        if not self.overwrite:
            self._require_repetition()

    def _describe(self, trainer: Trainer) -> dict[str, Any]:
        """Return what is tested on what, in plain types."""
        datamodule = getattr(trainer, "datamodule", None)
        assert isinstance(datamodule, ImageDataModule)
        assert trainer.test_dataloaders is not None
        return {
            "class_names": list(datamodule.class_names),
            "checkpoint": str(self.checkpoint),
            "checkpoint_sha256": sha256(self.checkpoint),
            "shortened": sum(trainer.num_test_batches) < len(trainer.test_dataloaders),
            "data": data_record(datamodule),
        }

    def _require_repetition(self) -> None:
        """Refuse to replace the results of a whole test by other ones."""
        path = self.folder / METRICS
        if not path.exists():
            return
        way_out = "add `--overwrite true` to replace them, or test a copy of the checkpoint in another folder"
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            if before.get("shortened"):
                return
            weights, data = before["checkpoint_sha256"], (before["data"]["dataset"], before["data"]["sample"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(f"{path} has results of an earlier version, or damaged ones; {way_out}") from error
        now = self._test["data"]
        if self._test["shortened"]:
            raise UserError(f"{path} has the results of a whole test, and this one is shortened; {way_out}")
        if weights != self._test["checkpoint_sha256"]:
            tested = before.get("checkpoint")
            why = "which has changed since" if tested == self._test["checkpoint"] else "another file"
            raise UserError(f"{path} has the results of {tested}, {why}; {way_out}")
        if data != (now["dataset"], now["sample"]):
            raise UserError(f"{path} has the results on other data, {data[0]}; {way_out}")

    def on_predictions(
        self, trainer: Trainer, pl_module: LightningModule, stage: Stage, predictions: Predictions
    ) -> None:
        """Write both files, whole or not at all, and put them in their places one right after the other."""
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
        record = {**metrics, "images": len(predictions), **self._test}
        with atomic_write(self.folder / METRICS) as figures, atomic_write(self.folder / PREDICTIONS) as rows:
            figures.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
            _write_predictions(rows, predictions, self._test["class_names"])
        self.summary = (
            f"Test accuracy: {100 * metrics['test/acc']:.2f} % of {len(predictions):,} images"
            f"{self._in_training()}\n"
            f"Written: {self.folder / METRICS}, {self.folder / PREDICTIONS}"
        )

    def _in_training(self) -> str:
        """What training reported for the same weights, where the checkpoint says it."""
        return "" if self._val_acc is None else f" (validation accuracy in training: {100 * self._val_acc:.2f} %)"


def _write_predictions(path: Path, predictions: Predictions, names: Sequence[str]) -> None:
    rows = zip(
        predictions.targets.tolist(),
        predictions.predicted.tolist(),
        predictions.confidence.tolist(),
        predictions.losses.tolist(),
        strict=True,
    )
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("index", "true", "predicted", "confidence", "loss"))
        for index, (true, predicted, confidence, loss) in enumerate(rows):
            writer.writerow((index, names[true], names[predicted], f"{confidence:.6f}", f"{loss:.6f}"))
