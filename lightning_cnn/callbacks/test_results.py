"""Writes the results of a test: its metrics and the prediction for every image."""

import json
import math
import os
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.callbacks.predictions import PredictionsCallback, Stage
from lightning_cnn.data import ImageDataModule
from lightning_cnn.errors import UserError
from lightning_cnn.files import atomic_write, sha256
from lightning_cnn.plots.evaluation import Predictions
from lightning_cnn.run import Run


class TestResults(PredictionsCallback):
    """Writes `test_metrics.json` and `test_predictions.csv` beside the tested checkpoint; `summary` is a short text.

    Results of a whole test are replaced only by those of a whole test of the same weights on the same data.

    Args:
        folder: Where to write.
        checkpoint: The tested file, to be named in the results.
        overwrite: Whether to replace results of other weights, other data or more images.
    """

    __test__ = False  # pytest would collect it because of its name

    def __init__(self, folder: Path, checkpoint: Path, overwrite: bool = False) -> None:
        self.run = Run(folder)
        self.checkpoint = checkpoint
        self.overwrite = overwrite
        self.summary = ""
        self._in_training: dict[str, float] = {}
        self._monitor: str | None = None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Compare with the metrics in the checkpoint."""
        self.compare_with(checkpoint[checkpoints.KEY])

    def compare_with(self, description: checkpoints.Description) -> None:
        """Remember the validation metrics of the weights, and which of them is monitored."""
        self._in_training = description["metrics"]
        settings = description["config"].get("checkpoints")
        self._monitor = settings.get("monitor") if isinstance(settings, dict) else None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that the results may be written.

        Raises:
            UserError: If the folder is not writable, has results that must not be replaced, or links in their place.
        """
        super().on_test_start(trainer, pl_module)
        if not trainer.is_global_zero:
            return
        if not os.access(self.run.folder, os.W_OK):
            raise UserError(
                f"the results are written into {self.run.folder}, which is not writable; test a copy of the checkpoint"
            )
        run = self.run
        run.require_inside(
            run.test_metrics_file, run.test_predictions_file, run.plots_folder, *run.plots_folder.glob("*")
        )
        # The checksum is taken now, because a training that is still running may replace the file during the test.
        self._record = describe_test(trainer, self.checkpoint)
        if not self.overwrite:
            self._require_repetition()

    def _require_repetition(self) -> None:
        """Refuse to replace results of a whole test by different ones."""
        path, now = self.run.test_metrics_file, self._record
        way_out = "add `--overwrite true` to replace them, or test a copy of the checkpoint in another folder"
        try:
            before = self.run.read_test_metrics()
            if before is None or before["shortened"]:
                return
            tested, weights, data = before["checkpoint"], before["checkpoint_sha256"], before["data"]["dataset"]
            tested_on, tests_on = identity_of_data(before["data"]), identity_of_data(now["data"])
        except (UserError, LookupError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is damaged or incomplete; {way_out}") from error
        if now["shortened"]:
            raise UserError(f"{path} has the results of a whole test, and this test is shortened; {way_out}")
        if weights != now["checkpoint_sha256"]:
            why = "which has changed since" if tested == now["checkpoint"] else "another file"
            raise UserError(f"{path} has the results of {tested}, {why}; {way_out}")
        if tested_on != tests_on:
            other = "other images of" if tested_on[:2] == tests_on[:2] else "other data,"
            raise UserError(f"{path} has the results on {other} {data}; {way_out}")

    def on_predictions(
        self, trainer: Trainer, pl_module: LightningModule, stage: Stage, predictions: Predictions
    ) -> None:
        """Write both files."""
        metrics = metrics_of_test(trainer)
        written = write_results(self.run, metrics, predictions, self._record)
        in_training = self._validation("acc")
        self.summary = (
            f"Test accuracy: {100 * metrics['test/acc']:.2f} % of {len(predictions):,} images{in_training}\n"
            f"{self._monitored(metrics)}"
            f"{written}"
        )

    def _monitored(self, metrics: dict[str, float]) -> str:
        """Return a line with the monitored metric, if that is another one than accuracy and the test has it."""
        name = str(self._monitor).removeprefix("val/")
        if name == "acc" or f"test/{name}" not in metrics:
            return ""
        return f"Test {name}: {metrics[f'test/{name}']:.4f}{self._validation(name)}\n"

    def _validation(self, name: str) -> str:
        value = self._in_training.get(f"val/{name}")
        if value is None:
            return ""
        if name == "acc":
            return f" (validation accuracy in training: {100 * value:.2f} %)"
        return f" (validation {name} in training: {value:.4f})"


def describe_test(trainer: Trainer, checkpoint: Path) -> dict[str, Any]:
    """Return what is tested on which data, in plain types."""
    datamodule = getattr(trainer, "datamodule", None)
    assert isinstance(datamodule, ImageDataModule)
    assert trainer.test_dataloaders is not None
    return {
        "class_names": list(datamodule.class_names),
        "checkpoint": str(checkpoint),
        "checkpoint_sha256": sha256(checkpoint),
        "shortened": sum(trainer.num_test_batches) < len(trainer.test_dataloaders),
        "data": {**(datamodule.record or {}), "crc32": datamodule.test_set.crc32()},
    }


def metrics_of_test(trainer: Trainer) -> dict[str, float]:
    """Return the metrics of the test that has ended."""
    return {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("test/")}


def write_results(run: Run, metrics: dict[str, float], predictions: Predictions, record: dict[str, Any]) -> str:
    """Write the metrics and predictions of a test, and return a line that names the files; neither is half-written.

    Args:
        run: Where to write.
        metrics: The metrics, `test/acc` among them.
        predictions: The predictions for all images.
        record: What `describe_test` returns.
    """
    numbers = {name: value if math.isfinite(value) else None for name, value in metrics.items()}  # no NaN in JSON
    content = {**numbers, "images": len(predictions), **record}
    json_file, csv_file = run.test_metrics_file, run.test_predictions_file
    with atomic_write(json_file) as metrics_path, atomic_write(csv_file) as predictions_path:
        metrics_path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        predictions.write_csv(predictions_path)
    return f"Written: {json_file}, {csv_file}"


def identity_of_data(data: dict[str, Any]) -> tuple[Any, ...]:
    """Return what the same test images have in common; a folder may have got others."""
    return data["dataset"], data["sample"], data["crc32"]
