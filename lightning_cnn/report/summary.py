"""What a report says about a run, read from the files that `fit` and `test` have written into its folder."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_cnn.errors import UserError
from lightning_cnn.files import sha256
from lightning_cnn.plots.evaluation import Predictions
from lightning_cnn.run import Run, read_json

#: Figures that cannot be drawn again from the files of a run, because they show images of the dataset.
_FIGURES = ("samples", "predictions", "mistakes")
#: Settings of the trainer that leave out a part of the data.
_LIMITS = ("limit_train_batches", "limit_val_batches", "overfit_batches")
_PNG = b"\x89PNG\r\n\x1a\n"
_NAN = float("nan")


@dataclass(frozen=True)
class Data:
    """The data of a training or a test.

    Attributes:
        dataset: Name of the dataset.
        origin: Where its files came from.
        sample: Whether it was only the small sample that ships with the package.
        images: Number of images of each part of a split; None if it was not recorded.
    """

    dataset: str
    origin: str
    sample: bool
    images: dict[str, int] | None = None


@dataclass(frozen=True)
class Test:
    """The results of a test.

    Attributes:
        accuracy: Share of correct predictions, 0 to 1.
        loss: Mean cross-entropy.
        images: Number of images.
        checkpoint: The tested file.
        data: The data that was tested on.
        is_stale: Whether training has replaced the tested file since.
        predictions: The predictions for all images; None if their file is missing.
    """

    __test__ = False  # pytest would collect it because of its name

    accuracy: float
    loss: float
    images: int
    checkpoint: str
    data: Data
    is_stale: bool
    predictions: Predictions | None


@dataclass(frozen=True)
class RunSummary:
    """A run in numbers.

    Attributes:
        folder: The run folder, as it was given.
        started: When the run was started, in UTC; None if unknown.
        config: The settings; empty if they were not recorded.
        data: The data it was trained on; None if it was not recorded.
        environment: Machine and versions; empty if they were not recorded.
        curves: `train_loss`, `train_acc`, `val_loss` and `val_acc`, each `(E,)`; empty if nothing was logged.
        monitored: The metric that decides which epoch is the best, `(E,)`; NaN where it was not logged.
        test: The results of the test; None if the run was not tested.
        figures: PNG files that show images, by name: `samples`, `predictions`, `mistakes`, those that exist.
        checkpoints: Names of the checkpoints that exist: `best`, `last`.
    """

    folder: Path
    started: datetime | None
    config: dict[str, Any]
    data: Data | None
    environment: dict[str, Any]
    curves: dict[str, NDArray[np.float64]]
    monitored: NDArray[np.float64]
    test: Test | None
    figures: dict[str, bytes]
    checkpoints: frozenset[str]

    @property
    def network(self) -> str:
        """Name of the network, for example `CNN`."""
        name = self._class_name("model").removesuffix("Classifier")
        if name == "Image":  # which takes any network
            name = self._class_name("model", "init_args", "network")
        return name or "an unknown network"

    @property
    def dataset(self) -> str:
        """Name of the dataset that the run was trained on."""
        if self.data is not None:
            return self.data.dataset
        name = self._class_name("data").removesuffix("DataModule")
        return name or (self.test.data.dataset if self.test else "an unknown dataset")

    @property
    def evaluated_on(self) -> tuple[str, bool]:
        """The dataset of the metrics, and whether it was only its sample."""
        data = self.test.data if self.test else self.data
        return (data.dataset, data.sample) if data else (self.dataset, False)

    def _class_name(self, *keys: str) -> str:
        return str(setting(self.config, *keys, "class_path") or "").rpartition(".")[2]

    @property
    def seed(self) -> Any:
        """The seed; None if it was not recorded."""
        return setting(self.config, "seed_everything")

    @property
    def precision(self) -> Any:
        """The precision, for example `bf16-mixed`; None if it was not recorded."""
        return setting(self.config, "trainer", "precision")

    @property
    def monitor(self) -> str:
        """Name of the metric that decides which epoch is the best."""
        return str(setting(self.config, "checkpoints", "monitor") or "val/acc")

    @property
    def parameters(self) -> float:
        """Number of parameters; NaN if it was not recorded."""
        value = self.environment.get("parameters")
        return value if isinstance(value, int) else _NAN

    @property
    def limits(self) -> dict[str, Any]:
        """Settings that leave out a part of the data, for example `{"limit_train_batches": 10}`."""
        values = {name: setting(self.config, "trainer", name) for name in _LIMITS}
        # All batches are None, or the share 1.0; the number 1 is a single batch. No overfitting is 0.0.
        return {
            name: value for name, value in values.items() if value and not (value == 1 and isinstance(value, float))
        }

    @property
    def epochs(self) -> int:
        """Number of epochs that were logged."""
        return len(self.curves["train_loss"]) if self.curves else 0

    @cached_property
    def best_epoch(self) -> int | None:
        """The epoch with the best value of the monitored metric, from 1, the first of equals; None if there is none."""
        if np.isnan(self.monitored).all():
            return None
        minimized = setting(self.config, "checkpoints", "mode") == "min"
        return int(np.nanargmin(self.monitored) if minimized else np.nanargmax(self.monitored)) + 1

    @property
    def best_val_acc(self) -> float:
        """The validation accuracy of the best epoch, 0 to 1; NaN if there is none."""
        return _NAN if self.best_epoch is None else float(self.curves["val_acc"][self.best_epoch - 1])

    @property
    def test_acc(self) -> float:
        """The test accuracy, 0 to 1; NaN if the run was not tested."""
        return self.test.accuracy if self.test else _NAN

    @property
    def test_loss(self) -> float:
        """The test loss; NaN if the run was not tested."""
        return self.test.loss if self.test else _NAN

    @property
    def calibration_error(self) -> float:
        """The expected calibration error, 0 to 1; NaN if there are no predictions."""
        return self.test.predictions.calibration.error if self.test and self.test.predictions else _NAN


def setting(config: dict[str, Any], *keys: str) -> Any:
    """Return a setting, for example `setting(config, "trainer", "precision")`; None if it is missing."""
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def read_summary(run: Run) -> RunSummary:
    """Read a run folder.

    Raises:
        UserError: If a file is damaged; the message names it.
    """
    config = run.read_config() if run.config_file.is_file() else {}
    curves = run.read_history()
    record = read_json(run.data_file)
    if (data := _data(record)) is None and record is not None:
        raise UserError(f"{run.data_file} is damaged or incomplete; repair or delete it")
    summary = RunSummary(
        folder=run.folder,
        started=_started(run),
        config=config,
        data=data,
        environment=run.read_environment(),
        curves=curves,
        monitored=np.full(len(curves["val_acc"]) if curves else 0, _NAN),
        test=_read_test(run),
        figures={name: _read_png(run.plot(name)) for name in _FIGURES if run.plot(name).is_file()},
        checkpoints=frozenset(name for name in ("best", "last") if run.checkpoint(name).is_file()),
    )
    for epoch, value in run.read_metric(summary.monitor):
        if epoch < len(summary.monitored):
            summary.monitored[epoch] = value
    return summary


def _started(run: Run) -> datetime | None:
    """Return the time in the name of the first TensorBoard file, which a copied folder keeps, unlike dates of files."""
    found = (re.search(r"\.tfevents\.(\d{10})\.", path.name) for path in run.event_files())
    seconds = [int(match[1]) for match in found if match]
    if not seconds and run.config_file.is_file():
        seconds = [int(run.config_file.stat().st_mtime)]
    return datetime.fromtimestamp(min(seconds), UTC) if seconds else None


def _data(record: Any) -> Data | None:
    match record:
        case {"dataset": str(dataset), "origin": str(origin), "sample": bool(sample)}:
            images = record.get("images")
            is_counted = isinstance(images, dict) and all(type(count) is int for count in images.values())
            return Data(dataset, origin, sample, images if is_counted else None)
    return None


def _read_test(run: Run) -> Test | None:
    match run.read_test_metrics():
        case None:
            return None
        case {
            "test/acc": float(accuracy),
            "test/loss": float(loss),
            "images": int(images),
            "checkpoint": str(checkpoint),
            "checkpoint_sha256": str(checksum),
            "class_names": [str(), *_] as names,
            "data": record,
        } if (data := _data(record)) and all(isinstance(name, str) for name in names):
            tested = run.checkpoint(Path(checkpoint).stem)  # the run may have been moved
            is_stale = tested.is_file() and sha256(tested) != checksum
            return Test(accuracy, loss, images, checkpoint, data, is_stale, _read_predictions(run, names, images))
    raise UserError(f"{run.test_metrics_file} is damaged or incomplete; test again")


def _read_predictions(run: Run, class_names: list[str], images: int) -> Predictions | None:
    path = run.test_predictions_file
    if not path.is_file():
        return None
    predictions = Predictions.read_csv(path, class_names)
    if len(predictions) != images:
        raise UserError(
            f"{path} has {len(predictions):,} predictions, but {run.test_metrics_file} says {images:,}; test again"
        )
    return predictions


def _read_png(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.startswith(_PNG) or len(content) < 24:  # as far as width and height
        raise UserError(f"{path} is damaged or not a PNG file; delete it")
    return content
