"""What a report says about a run, read from the files that `fit` and `test` have written into its folder."""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lightning_cnn.config.json import read_json
from lightning_cnn.errors import UserError
from lightning_cnn.files import read_limited, sha256
from lightning_cnn.history import History
from lightning_cnn.plots.evaluation import Predictions
from lightning_cnn.run import Run, event_time

#: Figures that cannot be drawn again from the files of a run, because they show images of the dataset.
_FIGURES = ("samples", "predictions", "mistakes")
#: Settings of the trainer that leave out a part of the data.
_LIMITS = ("limit_train_batches", "limit_val_batches", "overfit_batches")
_PNG = b"\x89PNG\r\n\x1a\n"
#: Bytes and pixels of the largest figure that a page embeds.
_MAX_PNG, _MAX_PIXELS = 8_000_000, 50_000_000
#: Bytes of the largest checkpoint whose checksum is compared: more would take long.
_MAX_HASHED = 2**30
_MAX_KINDS = 12
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
        metrics: The metrics without their stage, for example `acc` and `loss`.
        images: Number of images.
        checkpoint: The tested file.
        data: The data that was tested on.
        is_stale: Whether training has replaced the tested file since.
        predictions: The predictions for all images; None if their file is missing.
        members: Number of checkpoints whose mean was tested.
    """

    __test__ = False  # pytest would collect it because of its name

    metrics: dict[str, float]
    images: int
    checkpoint: str
    data: Data
    is_stale: bool
    predictions: Predictions | None
    members: int = 1


@dataclass(frozen=True)
class RunSummary:
    """A run in numbers.

    Attributes:
        folder: The run folder, as it was given.
        started: When the run was started, in UTC; None if unknown.
        config: The settings; empty if they were not recorded.
        config_text: The file with the settings, as it is.
        data: The data it was trained on; None if it was not recorded.
        environment: Machine and versions; empty if they were not recorded.
        history: The metrics of the epochs, that which decides which epoch is the best among them.
        test: The results of the test; None if the run was not tested.
        figures: PNG files that show images, by name: `samples`, `predictions`, `mistakes`, those that exist.
        checkpoints: Names of the checkpoints that exist: `best`, `last`.
    """

    folder: Path
    started: datetime | None
    config: dict[str, Any]
    config_text: str
    data: Data | None
    environment: dict[str, Any]
    history: History
    test: Test | None
    figures: dict[str, bytes]
    checkpoints: frozenset[str]

    @property
    def network(self) -> str:
        """Name of the network, for example `CNN`."""
        name = self._class_name("model").removesuffix("Classifier")
        if name == "Image":  # which takes any network
            name = self._class_name("model", "init_args", "network")
        if not name and self.test is not None and self.test.members > 1:
            return f"An ensemble of {self.test.members}"
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
    def loss(self) -> str:
        """Name of the loss."""
        name = str(setting(self.config, "model", "init_args", "loss", "class_path") or "").rpartition(".")[2]
        return name or "cross-entropy"

    @property
    def monitor(self) -> str:
        """Name of the metric that decides which epoch is the best."""
        return monitor_of(self.config)

    @property
    def mode(self) -> str:
        """Whether the highest (`max`) or the lowest (`min`) value of the monitored metric is the best."""
        return "min" if setting(self.config, "checkpoints", "mode") == "min" else "max"

    @property
    def monitored(self) -> str:
        """The name of the monitored metric without its stage."""
        return self.monitor.partition("/")[2] or self.monitor

    @property
    def kinds(self) -> list[str]:
        """The metrics of training, validation and test without their stage: accuracy, loss, and others."""
        logged = [name for name, values in self.history.metrics.items() if not np.isnan(values).all()]
        others = [name.partition("/")[2] for name in logged if "/" in name]
        return [*dict.fromkeys(["acc", "loss", *others, *(self.test.metrics if self.test else [])])][:_MAX_KINDS]

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
        """Number of epochs, up to the last one that was logged."""
        return int(self.history.epochs[-1]) + 1 if len(self.history) else 0

    @cached_property
    def best(self) -> int | None:
        """The position of the best epoch in the history, the first of equals; None if there is none."""
        monitored = self.history.metrics[self.monitor]
        if np.isnan(monitored).all():
            return None
        return int(np.nanargmin(monitored) if self.mode == "min" else np.nanargmax(monitored))

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the best value of the monitored metric, from 1, the first of equals; None if there is none."""
        return None if self.best is None else int(self.history.epochs[self.best]) + 1

    def at_best(self, metric: str) -> float:
        """Return a metric of the best epoch, for example `val/acc`; NaN if there is none."""
        values = self.history.metrics.get(metric)
        return _NAN if self.best is None or values is None else float(values[self.best])

    def tested(self, kind: str) -> float:
        """Return a metric of the test, for example `acc`; NaN if the run was not tested, or not by that metric."""
        return self.test.metrics.get(kind, _NAN) if self.test else _NAN

    @property
    def label_smoothing(self) -> float:
        """The label smoothing of the training, 0 to 1; it is part of the training loss only."""
        value = setting(self.config, "model", "init_args", "label_smoothing")
        return value if isinstance(value, float) else 0.0

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


def monitor_of(config: dict[str, Any]) -> str:
    """Return the name of the metric that decides which epoch of a run is the best."""
    return str(setting(config, "checkpoints", "monitor") or "val/acc")


def read_summary(run: Run) -> RunSummary:
    """Read a run folder.

    Raises:
        UserError: If a file is damaged; the message names it.
    """
    config = run.read_config() if run.config_file.is_file() else {}
    record = read_json(run.data_file)
    if (data := _data(record)) is None and record is not None:
        raise UserError(f"{run.data_file} is damaged or incomplete; repair or delete it")
    return RunSummary(
        folder=run.folder,
        started=_started(run),
        config=config,
        config_text=run.config_file.read_text(encoding="utf-8") if config else "",
        data=data,
        environment=run.read_environment(),
        history=run.read_history(monitor_of(config)),
        test=_read_test(run),
        figures={name: _read_png(run.plot(name)) for name in _FIGURES if run.plot(name).is_file()},
        checkpoints=frozenset(name for name in ("best", "last") if run.checkpoint(name).is_file()),
    )


def _started(run: Run) -> datetime | None:
    """Return the time in the name of the first TensorBoard file, which a copied folder keeps, unlike dates of files."""
    seconds = list(map(event_time, run.event_files()))
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
    match record := run.read_test_metrics():
        case None:
            return None
        case {
            "test/acc": float(),
            "test/loss": float(),
            "images": int(images),
            "checkpoint": str(checkpoint),
            "checkpoint_sha256": str(checksum),
            "class_names": [str(), *_] as names,
            "data": tested_on,
        } if (data := _data(tested_on)) and all(isinstance(name, str) for name in names):
            tested = run.checkpoint(Path(checkpoint).stem)  # the run may have been moved
            metrics = {
                name.removeprefix("test/"): value
                for name, value in record.items()
                if name.startswith("test/") and isinstance(value, float)
            }
            is_stale = tested.is_file() and _is_replaced(tested, run.test_metrics_file, checksum)
            members = together if isinstance(together := record.get("members"), list) else [checkpoint]
            predictions = _read_predictions(run, names, images)
            return Test(metrics, images, checkpoint, data, is_stale, predictions, len(members))
    raise UserError(f"{run.test_metrics_file} is damaged or incomplete; test again")


def _is_replaced(checkpoint: Path, results: Path, checksum: str) -> bool:
    """Whether a checkpoint is not the tested one; of a very large one, whether it was written after the results."""
    status = checkpoint.stat()
    if status.st_size > _MAX_HASHED:
        return status.st_mtime > results.stat().st_mtime
    return sha256(checkpoint) != checksum


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
    content = read_limited(path, _MAX_PNG)
    if not content.startswith(_PNG) or len(content) < 24:  # as far as width and height
        raise UserError(f"{path} is damaged or not a PNG file; delete it")
    width, height = struct.unpack(">II", content[16:24])
    if not 0 < width * height <= _MAX_PIXELS:  # a browser would unpack them all
        raise UserError(f"{path} has {width:,}×{height:,} pixels, more than {_MAX_PIXELS:,} or none; delete it")
    return content
