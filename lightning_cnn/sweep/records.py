"""Records of a config: the result of each of its seeds, where and with what, in a file that is kept with the configs.

A record may take days, on several machines: `lightning-cnn sweep --results` runs the seeds that its file does not have.
Imports neither torch nor Optuna.
"""

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lightning_cnn.errors import UserError, reason
from lightning_cnn.files import atomic_write
from lightning_cnn.run import Run

#: The columns of every file, the metrics between the first and the second group.
_KEYS = ("config", "hash", "seed")
_MACHINE = ("precision", "processes", "threads", "cores", "processor", "device")
_VERSIONS = ("python", "torch", "torchvision", "lightning", "lightning-cnn")
_RUN = ("epochs", "seconds", "parameters", *_MACHINE, *_VERSIONS)
#: Settings that do not decide which weights a seed ends with; those of the machine have columns of their own.
_NOT_OF_THE_RESULT = {
    *("seed_everything", "deterministic", "test", "overwrite", "resume", "plots", "dashboard"),
    *("checkpoints.every_n_steps", "checkpoints.every_n_minutes"),
    *("data.data_dir", "data.mirrors", "data.root", "data.eval_batch_size"),
    *(
        f"trainer.{name}"
        for name in (
            *("accelerator", "devices", "num_nodes", "strategy", "precision", "plugins", "benchmark", "deterministic"),
            *("logger", "profiler", "default_root_dir", "model_registry", "barebones", "detect_anomaly"),
            *("log_every_n_steps", "num_sanity_val_steps", "inference_mode", "use_distributed_sampler"),
            *("enable_progress_bar", "enable_model_summary", "enable_checkpointing", "enable_autolog_hparams"),
        )
    ),
}
#: Characters of a hash: enough that two settings of one config never share it.
_DIGITS = 12
_MAX_BYTES = 10_000_000


def decides_result(name: str) -> bool:
    """Whether a setting decides the result of a seed.

    Example:
        >>> decides_result("model.optimizer.lr"), decides_result("data.data_dir"), decides_result("plots.enabled")
        (True, False, False)
    """
    return not {name, name.partition(".")[0]} & _NOT_OF_THE_RESULT


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Return the hash of all settings of `fit` that decide the result of a seed.

    Settings that are null, false, empty or 0 do not count, so that a new option, which is off by default, changes no
    hash. A changed default does.

    Args:
        settings: All settings, defaults included, as plain values.

    Example:
        >>> settings_hash({"model": {"lr": 0.1}, "trainer": {"precision": "auto", "max_time": None}})
        '1bb9226452c8'
    """
    deciding = {}
    for group, content in settings.items():
        if group == "distillation" and not content["teachers"]:  # without which it does nothing
            continue
        if not isinstance(content, Mapping):
            deciding[group] = content if decides_result(group) else None
            continue
        has_class = "class_path" in content
        arguments = content.get("init_args") or {} if has_class else content
        kept = {name: value for name, value in arguments.items() if decides_result(f"{group}.{name}")}
        deciding[group] = {"class_path": content["class_path"], "init_args": kept} if has_class else kept
    text = json.dumps(_without_empty(deciding), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _without_empty(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {name: _without_empty(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item}
    return [*map(_without_empty, value)] if isinstance(value, list | tuple) else value


def config_name(path: Path) -> str:
    """Return the name of a config, as in commands: its path in a folder `configs`, or else the name of its file.

    Example:
        >>> config_name(Path("configs/mnist/cnn.yaml")), config_name(Path("mine.yaml"))
        ('mnist/cnn', 'mine')
    """
    folders = path.parts[:-1]
    inside = folders[folders.index("configs") + 1 :] if "configs" in folders else ()
    return Path(*inside, path.stem).as_posix()


def record(run: Run, monitor: str, mode: str, seconds: float | None, has_diverged: bool = False) -> dict[str, str]:
    """Return the row of a run, without the keys: its metrics, those of validation at its best epoch, and its machine.

    A run that has diverged has no metrics, whatever it had reached before.

    Args:
        run: A run that has ended.
        monitor: The metric that decides which epoch is the best.
        mode: `max` or `min`.
        seconds: How long it took, from the start of its process to its end; None if it was interrupted.
        has_diverged: Whether its training has diverged.

    Raises:
        UserError: If its files are damaged.
    """
    history, environment = run.read_history(monitor), run.read_environment()
    versions = environment.get("versions") or {}
    values: dict[str, Any] = {
        **environment,
        **(versions if isinstance(versions, Mapping) else {}),
        "epochs": int(history.epochs.max()) + 1 if len(history) else "",
        "seconds": "" if seconds is None else round(seconds, 1),
    }
    row = {name: _text(values.get(name, "")) for name in _RUN}
    monitored = history.metrics[monitor]
    if np.isfinite(monitored).any() and not has_diverged:
        best = int(np.nanargmax(monitored) if mode == "max" else np.nanargmin(monitored))
        found = {name: float(numbers[best]) for name, numbers in history.metrics.items() if name.startswith("val/")}
        found |= tested(run)
        row |= {name: f"{value:.6g}" for name, value in found.items() if math.isfinite(value)}
    return row


def tested(run: Run) -> dict[str, float]:
    """Return the metrics of the test of a run, none if it was not tested; raises `UserError` if they are damaged."""
    return {name: value for name, value in (run.read_test_metrics() or {}).items() if name.startswith("test/")}


def has_no_metrics(row: Mapping[str, str]) -> bool:
    """Whether the training of a seed has diverged: its row has no metrics."""
    return not any(value for name, value in row.items() if "/" in name)


def _text(value: object) -> str:
    return "" if value is None else " ".join(str(value).split())


@dataclass(frozen=True)
class Records:
    """The file with the records of a config, one row for each seed.

    Args:
        file: The file, `<folder>/<config>.csv`; it need not exist.
        config: The name of the config.
        hash: The hash of its present settings, from `settings_hash`.
    """

    file: Path
    config: str
    hash: str

    @classmethod
    def of(cls, folder: Path, config: Path, settings: Mapping[str, Any]) -> "Records":
        """Return the records of a config in a folder.

        Args:
            folder: The folder of all records.
            config: The file of the config.
            settings: All settings of `fit` with this config, defaults included.
        """
        name = config_name(config)
        return cls(folder / f"{name}.csv", name, settings_hash(settings))

    def read(self) -> list[dict[str, str]]:
        """Return the rows by seed; none if there is no file.

        Raises:
            UserError: If the file is damaged, or has rows of another config or of other settings.
        """
        rows = read_rows(self.file)
        for row in rows:
            if row["config"] != self.config:
                raise UserError(f"{self.file} has a record of {row['config']}, not of {self.config}; rename the file")
            if row["hash"] != self.hash:
                raise UserError(
                    f"{self.file} has records of other settings of {self.config} (hash {row['hash']}, now "
                    f"{self.hash}); restore the config, or delete the file to run all seeds again"
                )
        return rows

    def missing(self, seeds: Iterable[int]) -> list[int]:
        """Return the seeds that have no row yet; raises `UserError` as `read`."""
        known = {int(row["seed"]) for row in self.read()}
        return [seed for seed in seeds if seed not in known]

    def add(self, rows: Mapping[int, Mapping[str, str]]) -> None:
        """Add the rows of seeds, from `record`, to the file; seeds that it has already keep their rows.

        Raises:
            UserError: If the file cannot be written, and as `read`.
        """
        known = {int(row["seed"]): row for row in self.read()}
        if not rows.keys() - known.keys():
            return
        keys = {"config": self.config, "hash": self.hash}
        every = {seed: {**keys, "seed": str(seed), **row} for seed, row in rows.items()} | known
        metrics = sorted({name for row in every.values() for name in row if "/" in name}, key=_metric_order)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.file) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, [*_KEYS, *metrics, *_RUN], lineterminator="\n", extrasaction="ignore")
                writer.writeheader()
                writer.writerows(every[seed] for seed in sorted(every))
        except OSError as error:
            raise UserError(f"{self.file} cannot be written ({reason(error)}); give another --results") from error


def _metric_order(name: str) -> tuple[bool, bool, str]:
    """Validation first, and the accuracy before all others."""
    stage, _, kind = name.partition("/")
    return stage != "val", kind != "acc", name


def read_rows(file: Path) -> list[dict[str, str]]:
    """Return the rows of a file of records by seed, whatever settings they are of; none if there is no file.

    Raises:
        UserError: If it is damaged.
    """
    if not file.is_file():
        return []
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES:,} bytes")
        with file.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream, strict=True)
            rows = [*reader]
        if missing := {*_KEYS, *_RUN} - {*(reader.fieldnames or ())}:
            raise ValueError(f"it has no column {min(missing)}")
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a row has not one value for each column")
        seeds = [int(row["seed"]) for row in rows]
        if twice := {seed for seed in seeds if seeds.count(seed) > 1}:
            raise ValueError(f"seed {min(twice)} is there twice")
        for row in rows:
            for name in (name for name in row if "/" in name and row[name]):
                float(row[name])
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{file} is damaged ({reason(error)}); repair or delete it") from error
    return sorted(rows, key=lambda row: int(row["seed"]))
