"""What a run is set up with: its precision, its folder, its loggers and callbacks. Each piece works without the CLI."""

import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from lightning_cnn.callbacks import Progress
from lightning_cnn.callbacks.metrics_csv import MetricsCSV, read_rows
from lightning_cnn.callbacks.tensorboard import TensorBoard
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.config.class_settings import find_class, import_path, is_class, names_class
from lightning_cnn.config.settings import Tree
from lightning_cnn.data import ImageDataModule
from lightning_cnn.environment import is_rank_zero, torchrun_world
from lightning_cnn.errors import DivergenceError, Interrupted, UserError, reason
from lightning_cnn.run import Run, snake_case
from lightning_cnn.training import precision
from lightning_cnn.training.trainer_values import duration_text

#: The names of mixed precision with float16.
_HALF = (16, "16", "16-mixed")
#: Largest batch for the precision probe: enough to tell precisions apart, and quick.
_PROBE_BATCH = 256


def complete(settings: Tree) -> Tree:
    """Return settings of a command with what follows from others and from the launcher.

    The user's number of devices and precision are kept. Otherwise the devices are the processes that torchrun has
    started, and `deterministic` means float32 without a precision probe.
    """
    trainer = dict(settings.get("trainer", {}))
    for name in ("accelerator", "strategy"):  # they also take text, for which the parser would take the name of a class
        if names_class(("trainer", name), trainer.get(name)):
            trainer[name] = {"class_path": trainer[name]}
    for name in ("max_time", "val_check_interval"):
        trainer |= {name: text} if (text := duration_text(trainer.get(name))) else {}
    world = torchrun_world()
    if world is not None and trainer.get("devices", "auto") == "auto":
        trainer |= {"devices": world[0], "num_nodes": world[1]}
    if settings.get("deterministic"):
        if trainer.get("precision", "auto") == "auto":
            rank_zero_info("Precision: 32-true (bf16-mixed may be faster, and is as repeatable)")
            trainer["precision"] = "32-true"
        trainer["deterministic"] = True
    model = {"model": _with_full_names(settings["model"])} if "model" in settings else {}
    return {**settings, "trainer": trainer, **model}


def _with_full_names(model: Any) -> Any:
    """Return the settings of a model in which the names of its network, its loss and its metrics can be imported."""
    if not is_class(model):
        return model
    given = dict(model.get("init_args") or {})
    given |= {name: _with_full_name(given[name], name) for name in ("network", "loss") if name in given}
    if isinstance(metrics := given.get("metrics"), dict):
        given["metrics"] = {name: _with_full_name(metric, "metrics", name) for name, metric in metrics.items()}
    return {**model, "init_args": given}


def _with_full_name(value: Any, *place: str) -> Any:
    chosen = {"class_path": value} if isinstance(value, str) else value
    if not is_class(chosen):  # null, or what only the parser can refuse
        return value
    return {**chosen, "class_path": import_path(find_class(("model", *place), chosen["class_path"]))}


def choose_precision(options: Mapping[str, Any], model: ImageClassifier, batch_size: int) -> Any:
    """Return the precision to train in: the requested one, or for `auto` what the precision probe finds best.

    Args:
        options: The settings of the trainer. Plugins of the user may set a precision of their own.
        model: The classifier to probe; it is not changed.
        batch_size: Images of a batch.
    """
    requested, device = options["precision"], _probe_device(options["accelerator"])
    if requested in _HALF and device == torch.device("cpu"):  # Lightning does the same, but would record float16
        rank_zero_info(f"Precision: bf16-mixed ({requested} needs a GPU)")
        return "bf16-mixed"
    if requested != "auto" or device is None or options["plugins"]:
        return requested
    if not is_rank_zero():
        return None  # rank 0 probes, and broadcasts its choice
    model.require_fitting_network()
    batch = max(2, min(batch_size, _PROBE_BATCH))  # batch normalisation may not train on one image
    pixels = torch.zeros(batch, *model.image_shape, dtype=torch.uint8)
    pixels.random_(256, generator=torch.Generator().manual_seed(0))
    verdict = precision.choose(model.network, model.preprocess(pixels), device)
    chosen = "32-true" if verdict is None else verdict.precision
    rank_zero_info(f"Precision: {chosen} ({verdict or 'the processor has no instructions for bfloat16'})")
    return chosen


def _probe_device(accelerator: Any) -> torch.device | None:
    """The device to probe precisions on; None for other accelerators."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    others = accelerator == "auto" and torch.accelerator.is_available()
    return torch.device("cpu") if accelerator == "cpu" or (accelerator == "auto" and not others) else None


@contextmanager
def new_run(root: Path, model: ImageClassifier, datamodule: ImageDataModule) -> Iterator[Run]:
    """Create and lock the folder of a new run, named after the dataset and the network.

    It is removed if the block is ended by an error before there is a checkpoint, unless the metrics until then may be
    worth a look.
    """
    datamodule.require_outside(root)
    is_wrapper = type(model) is not ImageClassifier
    network = type(model).__name__.removesuffix("Classifier") if is_wrapper else model.network_name
    run = Run.create(root, f"{datamodule.name}-{snake_case(network)}")
    try:
        with run.lock():
            yield run
    except DivergenceError:
        raise
    except (UserError, MisconfigurationException, ModuleNotFoundError, Interrupted):
        remove_empty_run(run)
        raise


def remove_empty_run(run: Run) -> None:
    """Remove the folder of a run that has no checkpoint, and the folders above it that are empty then."""
    if run.checkpoints_folder.exists():
        return
    shutil.rmtree(run.folder, ignore_errors=True)
    with suppress(OSError):  # not empty: there are other runs
        run.folder.parent.rmdir()
        run.folder.parent.parent.rmdir()


def user_loggers(requested: Any) -> list[Logger]:
    """Return the loggers that the user has added with `--trainer.logger`, instantiated."""
    if requested in (None, True, False):
        return []
    return [requested] if isinstance(requested, Logger) else [*requested]


def make_loggers(requested: Any, run: Run, first_step: int | None) -> list[Logger]:
    """Return the loggers of a run: `metrics.csv` and TensorBoard, and beside them those of the user.

    Args:
        requested: `--trainer.logger`, instantiated: loggers of the user, None or True for ours alone, False for none.
        run: The run.
        first_step: Where a resumed run continues.

    Raises:
        UserError: If a logger would replace files of the run, or cannot write into its folder.
    """
    if requested is False:
        return []
    users = user_loggers(requested)
    for logger in users:
        _require_writable(logger)
        if isinstance(logger, CSVLogger | TensorBoardLogger):
            if first_step is not None:
                _resume_log(logger, run, first_step)
            if is_rank_zero() and Path(logger.log_dir).resolve() == run.folder.resolve():
                raise UserError(
                    f"{type(logger).__name__} would write into {run.folder}, where the run has files with the same "
                    "names; give it another save_dir, name or version"
                )
    # In this order: TensorBoard's logger removes the epoch from the metrics that it is given.
    return [*users, MetricsCSV(run.folder, first_step), TensorBoard(run.folder, first_step)]


@rank_zero_only
def _resume_log(logger: CSVLogger | TensorBoardLogger, run: Run, first_step: int) -> None:
    """Let a logger of Lightning go on in the folder where it was when the run was stopped."""
    for recorded in run.read_environment().get("loggers", []):
        match recorded:
            case [kind, root, int() | str() as version] if Path(f"{version}").name == f"{version}":  # in the folder
                if logger._version is None and (kind, root) == (type(logger).__name__, logger.root_dir):
                    logger._version = version
    if isinstance(logger, TensorBoardLogger):
        logger._kwargs.setdefault("purge_step", first_step)
        return
    path = Path(logger.log_dir) / ExperimentWriter.NAME_METRICS_FILE
    if not path.is_file():
        return
    with warnings.catch_warnings(action="ignore"):  # that it deletes the file
        logger.experiment.metrics = read_rows(path, first_step)  # text is written as it was read
    logger.save()


def _require_writable(logger: Logger) -> None:
    folder = logger.save_dir
    if not folder or "://" in str(folder):
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"--trainer.logger {type(logger).__name__} cannot write into {folder} ({reason(error)}); give it another "
            "folder"
        ) from error


def make_callbacks(requested: Callback | Iterable[Callback] | None, shows_progress: bool | None) -> list[Callback]:
    """Return the user's callbacks in a new list, with our progress bar unless it is disabled or the user's is there."""
    callbacks = [requested] if isinstance(requested, Callback) else [*(requested or [])]
    if shows_progress is not False and not any(isinstance(callback, ProgressBar) for callback in callbacks):
        callbacks.append(Progress())
    return callbacks
