"""A run: its folder, the name of every file in it, and how it is created, found and read.

No other module has these file names. Imports neither torch nor Lightning.
"""

import csv
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lightning_cnn import history, weights
from lightning_cnn.config.json import read_json
from lightning_cnn.config.yaml import read_config
from lightning_cnn.errors import UserError, reason
from lightning_cnn.files import limited_lines, local_path, remove_partial_files, shipped_configs
from lightning_cnn.history import History

#: The default folder of all runs.
DEFAULT_ROOT = Path("logs")
#: The checkpoints of a run that can be given by name.
CHECKPOINT_NAMES = ("best", "last", "previous")
#: How a checkpoint can be given, for messages.
CHECKPOINT_FORMS = "a file, a run folder, `best`, `last` or `previous`"


class _File:
    """A file or folder in a run folder: an attribute of `Run` whose value is its path."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, run: "Run", owner: "type[Run]") -> Path:
        return run.folder / self._name


@dataclass(frozen=True)
class Run:
    """A run folder, `logs/<dataset>-<network>/version_N`.

    Args:
        folder: The folder; it need not exist.

    Example:
        >>> run = Run(Path("logs/mnist-cnn/version_0"))
        >>> run.checkpoint("best").as_posix()
        'logs/mnist-cnn/version_0/checkpoints/best.ckpt'
    """

    folder: Path

    @classmethod
    def create(cls, root: Path, name: str) -> "Run":
        """Create `root/name/version_N` with the next free N; safe when several runs start at once.

        Raises:
            UserError: If it cannot be created there.
        """
        parent = root / name
        try:
            parent.mkdir(parents=True, exist_ok=True)
            while True:
                taken = [int(n) for p in parent.glob("version_*") if (n := p.name.removeprefix("version_")).isdecimal()]
                with suppress(FileExistsError):  # another run was faster
                    (folder := parent / f"version_{max(taken, default=-1) + 1}").mkdir()
                    return cls(folder)
        except OSError as error:
            raise UserError(
                f"no run folder can be created in {root} ({reason(error)}); "
                "give another with --trainer.default_root_dir"
            ) from error

    @classmethod
    def of_checkpoint(cls, checkpoint: Path) -> "Run":
        """Return the run that a checkpoint file belongs to, or else its own folder as a run.

        The file may be in a subfolder of `checkpoints`: `ModelCheckpoint` makes one of a slash in the name of a metric.
        Weights that ship with this package have a folder in `logs`, which need not exist.
        """
        if (name := weights.name_of(checkpoint)) is not None:
            return cls(DEFAULT_ROOT / "weights" / name.replace("/", "-"))
        for folder in checkpoint.parents:
            run = cls(folder.parent)
            if folder == run.checkpoints_folder and (folder == checkpoint.parent or run.exists()):
                return run
        return cls(checkpoint.parent)

    #: All settings of the run.
    config_file = _File("config.yaml")
    #: Machine, versions, seed and git revision.
    environment_file = _File("environment.json")
    #: Which dataset was used, and where it came from.
    data_file = _File("data.json")
    #: Which file is in which part of a split, if that does not follow from the dataset.
    split_file = _File("split.csv")
    #: The metrics of every epoch.
    metrics_file = _File("metrics.csv")
    #: The metrics of the test.
    test_metrics_file = _File("test_metrics.json")
    #: The prediction for every test image.
    test_predictions_file = _File("test_predictions.csv")
    #: The page about the run.
    report_file = _File("report.html")
    #: Locked while a process trains in the folder.
    lock_file = _File(".lock")
    checkpoints_folder = _File("checkpoints")
    plots_folder = _File("plots")

    def checkpoint(self, name: str) -> Path:
        """Return the checkpoint file with this name, for example `best`."""
        return self.checkpoints_folder / f"{name}.ckpt"

    def has_checkpoint(self, path: Path) -> bool:
        """Whether a checkpoint file is one of this run, and no copy elsewhere."""
        return self.checkpoints_folder in path.parents

    def plot(self, name: str) -> Path:
        """Return the figure with this name, for example `history`."""
        return self.plots_folder / f"{name}.png"

    def event_files(self) -> list[Path]:
        """Return TensorBoard's event files."""
        return sorted(self.folder.glob(f"events.out.tfevents.{10 * '[0-9]'}.*"))

    def exists(self) -> bool:
        """Whether the folder has anything that `fit` or `test` writes into a run."""
        return any(file.is_file() for file in (self.config_file, self.metrics_file, self.test_metrics_file))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let only this process train in the folder; the lock of a killed process is released by the system.

        Partial files that killed processes have left are removed.

        Raises:
            UserError: If another process trains in it, a file or folder in it is a link to elsewhere, or its record of
                the environment is damaged.
        """
        self.require_inside()
        self.read_environment()  # it is read and replaced later, when other files are written already
        try:
            lock = FileLock(self.lock_file).acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                f"{self.folder} is being trained by another process; wait for its end, or stop it"
            ) from error
        with lock:
            remove_partial_files(self.folder)
            yield

    def require_inside(self, *paths: Path) -> None:
        """Refuse files and folders of this run that are links to elsewhere: writing them would write there.

        Args:
            paths: Those to be written; all, if none are given.

        Raises:
            UserError: If one of them is such a link.
        """
        own = (getattr(self, name) for name, kind in vars(Run).items() if isinstance(kind, _File))
        root = os.path.realpath(self.folder)
        for path in paths or (*own, *map(self.checkpoint, CHECKPOINT_NAMES), *self.plots_folder.glob("*")):
            target = os.path.realpath(path)  # `resolve` raises RuntimeError for a loop of links
            if path.is_symlink() and Path(root) not in Path(target).parents:
                raise UserError(f"{path} is a link that leads out of the run folder, to {target}; delete it")

    def read_config(self) -> dict[str, Any]:
        """Return all settings of the run; raises `UserError` if `config.yaml` is missing or not a valid config."""
        return read_config(self.config_file)

    def read_environment(self) -> dict[str, Any]:
        """Return what `environment.json` says, empty if there is none; raises `UserError` if it is damaged."""
        record = read_json(self.environment_file) or {}
        if not all(isinstance(record.get(name, []), list) for name in ("loggers", "earlier")):
            raise UserError(f"{self.environment_file} is damaged; repair or delete it")
        return record

    def read_test_metrics(self) -> dict[str, Any] | None:
        """Return what `test_metrics.json` says, None if there is none; raises `UserError` if it is damaged.

        JSON has no NaN: a metric that is null was NaN or infinite.
        """
        record = read_json(self.test_metrics_file)
        if record is None:
            return None
        return {name: math.nan if name.startswith("test/") and v is None else v for name, v in record.items()}

    def read_used_digests(self, digests: Collection[str]) -> set[str] | None:
        """Return those of these digests whose files were trained or validated on; None if there is no `split.csv`.

        Raises:
            UserError: If `split.csv` is damaged.
        """
        path = self.split_file
        if not path.is_file():
            return None
        try:
            if (size := path.stat().st_size) > history.MAX_BYTES:
                raise ValueError(f"{size:,} bytes are more than {history.MAX_BYTES:,}")
            with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                rows = csv.reader(limited_lines(file))
                split, digest = map(next(rows, []).index, ("split", "digest"))
                return {row[digest] for row in rows if row[digest] in digests and row[split] != "test"}
        except (OSError, ValueError, IndexError, csv.Error) as error:
            raise UserError(f"{path} is damaged ({reason(error)}); repair or delete it") from error

    def read_history(self, monitor: str = "val/acc") -> History:
        """Return the metrics of every epoch, `monitor` among them; raises `UserError` if `metrics.csv` is damaged."""
        return history.read_history(self.metrics_file, monitor)

    def read_metric(self, name: str) -> list[tuple[int, float]]:
        """Return the epoch, from 0, and the value of every measurement of a metric, for example `val/acc`.

        Raises:
            UserError: If `metrics.csv` is damaged.
        """
        return history.read_metric(self.metrics_file, name)


def event_time(file: Path) -> int:
    """Return when an event file was made, in seconds since 1970, which its name begins with."""
    return int(file.name.split(".")[3])


def find_runs(root: Path) -> list[Run]:
    """Return all runs below `root` that have checkpoints, the one that last wrote one first."""
    folders = root.glob(f"*/version_*/{Run(Path()).checkpoints_folder}")
    return [Run(folder.parent) for folder in sorted(folders, key=lambda f: f.stat().st_mtime, reverse=True)]


def resolve_checkpoint(reference: str, runs: Iterable[Run], folder_means: str) -> Path:
    """Return the checkpoint file that `reference` refers to.

    Args:
        reference: A file, a run folder, or `best`, `last` or `previous` (the one before the last) of the newest run; if
            there is no such file or folder, the name of weights of this package, such as `mnist` or `mnist/tiny`.
        runs: The runs in which to look for such a name, newest first.
        folder_means: The checkpoint for which a run folder stands, `best` or `last`.

    Raises:
        UserError: If there is no such checkpoint.
    """
    if reference in CHECKPOINT_NAMES:
        for run in runs:
            if any(run.checkpoint(name).is_file() for name in CHECKPOINT_NAMES):
                if (path := run.checkpoint(reference)).is_file():
                    return path
                raise UserError(f"the newest run, {run.folder}, has no {reference}.ckpt; give {CHECKPOINT_FORMS}")
        raise UserError(f"no matching run has a checkpoint {reference}.ckpt; train with `fit` first, or give a file")
    path = local_path(reference, "checkpoint")
    try:
        if path.is_dir():
            folder, path = path, Run(path).checkpoint(folder_means)
            if not path.is_file():
                if (last := Run(folder).checkpoint("last")).is_file():
                    raise UserError(f"{reference!r} has no {path.name}, which the first validation saves; give {last}")
                if inside := [run.folder for run in find_runs(folder.parent) if run.folder.parent == folder]:
                    raise UserError(f"{reference!r} has runs in it; name one of them, such as {inside[0]}")
                raise UserError(
                    f"{reference!r} is not a run folder: there is no {path}; give {CHECKPOINT_FORMS}{weights.listed()}"
                )
        if not path.exists():
            if not path.is_symlink() and (shipped := weights.find(reference)) is not None:
                return shipped
            if reference in shipped_configs():
                raise UserError(f"{reference} is a config; give it with --config {reference}")
            raise UserError(f"checkpoint {path} does not exist; give {CHECKPOINT_FORMS}{weights.listed()}")
    except OSError as error:
        raise UserError(f"checkpoint {path} cannot be read ({reason(error)}); give {CHECKPOINT_FORMS}") from error
    return path


def snake_case(name: str) -> str:
    """Return a class name in snake case.

    Example:
        >>> snake_case("SimpleCNN"), snake_case("MLP")
        ('simple_cnn', 'mlp')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
