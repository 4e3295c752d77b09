"""A run, read from its folder: what `fit` and `test` have written there, and no more."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from lightning_cnn.errors import UserError
from lightning_cnn.files import sha256
from lightning_cnn.report.predictions import Predictions, read_predictions
from lightning_cnn.run import Run as RunFolder

#: A folder is that of a run if it has one of these.
_SIGNS = ("config.yaml", "metrics.csv", "test_metrics.json")
#: Pictures that cannot be drawn again from the files of a run, because they show images of the dataset.
_PICTURES = ("samples", "predictions", "mistakes")
#: Settings of the trainer that leave out a part of the data.
_LIMITS = ("limit_train_batches", "limit_val_batches", "overfit_batches")
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Data:
    """Which data a run has seen.

    Attributes:
        dataset: Name of the dataset.
        origin: Where its files came from.
        sample: Whether it was only the small sample that ships with the package.
    """

    dataset: str
    origin: str
    sample: bool


@dataclass(frozen=True)
class Test:
    """What a test has measured.

    Attributes:
        accuracy: Share of the images that were recognised, 0 to 1; NaN where it was not recorded.
        loss: Mean cross-entropy; NaN where it was not recorded.
        images: Number of images; None where it was not recorded.
        checkpoint: The tested file; empty where it was not recorded.
        data: Which data was tested on; None where it was not recorded.
        class_names: Names in the order of the classes; None where they were not recorded.
        is_stale: Whether the tested file is another one by now, because training went on.
    """

    __test__ = False  # the name begins like a test's, and pytest would collect it

    accuracy: float
    loss: float
    images: int | None
    checkpoint: str
    data: Data | None
    class_names: list[str] | None
    is_stale: bool


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        folder: Its folder, as it was given.
        started: When it was started, in UTC; None where nothing tells.
        config: The settings; empty where they were not recorded.
        config_text: The same as the text of `config.yaml`.
        data: Which data it was trained on; None where it was not recorded.
        environment: Machine and versions; empty where they were not recorded.
        curves: `train_loss`, `train_acc`, `val_loss` and `val_acc`, each `(E,)`; empty if nothing was measured.
        test: What the test has measured; None if there was none.
        predictions: The predictions of the test; None where they are missing.
        pictures: PNG files by name: `samples`, `predictions`, `mistakes`, those that there are.
        checkpoints: Names of the checkpoints that there are: `best`, `last`.
    """

    folder: Path
    started: datetime | None
    config: dict[str, Any]
    config_text: str
    data: Data | None
    environment: dict[str, Any]
    curves: dict[str, NDArray[np.float64]]
    test: Test | None
    predictions: Predictions | None
    pictures: dict[str, bytes]
    checkpoints: frozenset[str]

    @property
    def network(self) -> str:
        """Name of the network, for example `CNN`."""
        return self._class_name("model").removesuffix("Classifier") or "an unknown network"

    @property
    def dataset(self) -> str:
        """Name of the dataset that it was trained on, as far as it is known."""
        if self.data is not None:
            return self.data.dataset
        name = self._class_name("data").removesuffix("DataModule")
        if not name and self.test is not None and self.test.data is not None:
            return self.test.data.dataset
        return name or "an unknown dataset"

    @property
    def measured_on(self) -> tuple[str, bool]:
        """The dataset that its figures are about, and whether it was only the sample of it."""
        data = self.data if self.test is None or self.test.data is None else self.test.data
        return (self.dataset, False) if data is None else (data.dataset, data.sample)

    def _class_name(self, key: str) -> str:
        return str(self.setting(key, "class_path") or "").rpartition(".")[2]

    def setting(self, *keys: str) -> Any:
        """Return a setting, for example `setting("trainer", "precision")`; None where there is none."""
        value: Any = self.config
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    @property
    def seed(self) -> Any:
        """The seed; None where it was not recorded."""
        return self.setting("seed_everything")

    @property
    def precision(self) -> Any:
        """The precision, for example `bf16-mixed`; None where it was not recorded."""
        return self.setting("trainer", "precision")

    @property
    def parameters(self) -> int | None:
        """Number of parameters; None where it was not recorded."""
        value = self.environment.get("parameters")
        return value if isinstance(value, int) else None

    @property
    def limits(self) -> dict[str, Any]:
        """Settings by which the run has seen only a part of its data, for example `{"limit_train_batches": 10}`."""
        values = {name: self.setting("trainer", name) for name in _LIMITS}
        # All batches are None, or the share 1.0; the number 1 is a single batch. No overfitting is 0.0.
        return {
            name: value for name, value in values.items() if value and not (value == 1 and isinstance(value, float))
        }

    @property
    def epochs(self) -> int:
        """Number of epochs that were measured."""
        return len(self.curves["train_loss"]) if self.curves else 0

    @cached_property
    def best_epoch(self) -> int | None:
        """The epoch with the highest validation accuracy, from 1, the first of equals; None if there was none."""
        accuracy = self.curves.get("val_acc", np.array([]))
        return None if np.isnan(accuracy).all() else int(np.nanargmax(accuracy)) + 1

    @property
    def best_val_acc(self) -> float:
        """The highest validation accuracy, 0 to 1; NaN if there was none."""
        return float("nan") if self.best_epoch is None else float(self.curves["val_acc"][self.best_epoch - 1])

    @property
    def test_acc(self) -> float:
        """The test accuracy, 0 to 1; NaN if it was not tested."""
        return float("nan") if self.test is None else self.test.accuracy

    @property
    def test_loss(self) -> float:
        """The test loss; NaN if it was not tested."""
        return float("nan") if self.test is None else self.test.loss

    @property
    def calibration_error(self) -> float:
        """The expected calibration error, 0 to 1; NaN if there are no predictions."""
        return float("nan") if self.predictions is None else self.predictions.calibration.error


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return any((folder / name).is_file() for name in _SIGNS)


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        UserError: If one of its files is damaged; the message names it.
    """
    config, config_text = _read_config(folder / "config.yaml")
    test = _read_test(folder / "test_metrics.json")
    pictures = folder / "plots"
    return Run(
        folder=folder,
        started=_started(folder),
        config=config,
        config_text=config_text,
        data=_data(_read_json(folder / "data.json")),
        environment=_read_json(folder / "environment.json") or {},
        curves=RunFolder(folder).read_history(),
        test=test,
        predictions=_read_predictions(folder / "test_predictions.csv", test),
        pictures={name: _read_png(path) for name in _PICTURES if (path := pictures / f"{name}.png").is_file()},
        checkpoints=frozenset(name for name in ("best", "last") if (folder / "checkpoints" / f"{name}.ckpt").is_file()),
    )


def _started(folder: Path) -> datetime | None:
    """The second that the first TensorBoard file has in its name; a copied folder keeps it, unlike dates of files."""
    found = (re.search(r"\.tfevents\.(\d{10})\.", path.name) for path in folder.glob("events.out.tfevents.*"))
    seconds = [int(match[1]) for match in found if match]
    if not seconds and (config := folder / "config.yaml").is_file():
        seconds = [int(config.stat().st_mtime)]
    return datetime.fromtimestamp(min(seconds), UTC) if seconds else None


def _read_config(path: Path) -> tuple[dict[str, Any], str]:
    if not path.is_file():
        return {}, ""
    text = _read_text(path)
    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # a date that there is not, for example, is a ValueError
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}; mend or delete it") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} must hold settings by name, got {config!r:.60}; mend or delete it")
    return config, text


def _read_test(path: Path) -> Test | None:
    record = _read_json(path)
    if record is None:
        return None
    names = record.get("class_names")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise UserError(f"{path}: class_names must be a list of names, got {names!r:.60}; test again")
    images = record.get("images")
    return Test(
        accuracy=_number(record, "test/acc", path),
        loss=_number(record, "test/loss", path),
        images=images if isinstance(images, int) else None,
        checkpoint=str(record.get("checkpoint") or ""),
        data=_data(record.get("data")),
        class_names=names,
        is_stale=_is_stale(record, path.parent),
    )


def _is_stale(record: Mapping[str, Any], folder: Path) -> bool:
    """Whether the checkpoint that was tested has been written anew; its folder may have been moved."""
    checkpoint = folder / "checkpoints" / Path(str(record.get("checkpoint"))).name
    return "checkpoint_sha256" in record and checkpoint.is_file() and sha256(checkpoint) != record["checkpoint_sha256"]


def _number(record: Mapping[str, Any], key: str, path: Path) -> float:
    value = record.get(key, float("nan"))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{path}: {key} must be a number, got {value!r:.60}; test again")
    return float(value)


def _data(record: Any) -> Data | None:
    if not isinstance(record, dict) or "dataset" not in record:
        return None
    return Data(str(record["dataset"]), str(record.get("origin") or "an unknown place"), record.get("sample") is True)


def _read_predictions(path: Path, test: Test | None) -> Predictions | None:
    if test is None or not path.is_file():  # `test` writes its figures last: without them it was not finished
        return None
    predictions = read_predictions(path, test.class_names)
    if test.images not in (None, len(predictions)):
        raise UserError(
            f"{path} has {len(predictions):,} predictions, test_metrics.json speaks of {test.images:,}; test again"
        )
    return predictions


def _read_png(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.startswith(_PNG) or len(content) < 24:  # as far as width and height
        raise UserError(f"{path} is not a PNG picture, or damaged; delete it")
    return content


def _read_json(path: Path) -> dict[str, Any] | None:
    """Return what the file holds, or None if there is no file."""
    if not path.is_file():
        return None
    try:
        record = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON: {error}; mend or delete it") from error
    if not isinstance(record, dict):
        raise UserError(f"{path} must hold values by name, got {record!r:.60}; mend or delete it")
    return record


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8; mend or delete it") from error
