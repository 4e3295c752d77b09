"""What a checkpoint says of itself, and where checkpoints lie.

Under the key `lightning_cnn` a checkpoint holds, as plain types that load without running code, all that is needed to
build the model and its data again.
"""

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from lightning_cnn.errors import UserError

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule
    from torch import Tensor

KEY = "lightning_cnn"
#: Where a run keeps its checkpoints, below its folder.
FOLDER = "checkpoints"
_LIBRARIES = ("lightning-cnn", "torch", "torchvision", "lightning", "torchmetrics", "numpy")


class Description(TypedDict):
    """What a checkpoint says of itself.

    Attributes:
        config: Class path and arguments of `model` and `data`, as in a config file; from the command line all of it.
        class_names: Names in the order of the logits; None if the model was trained without a data module that knows.
        framing: How the training images were made from larger ones: `side` and `by_mass`; None likewise. Not in
            checkpoints of earlier versions.
        metrics: What training had last reported when it was written, for example `val/acc`.
        preprocessing: `mean` and `std` of the pixels scaled to [0, 1].
        versions: Version of each library that had a hand in it.
    """

    config: dict[str, Any]
    class_names: list[str] | None
    framing: NotRequired[dict[str, Any] | None]
    metrics: dict[str, float]
    preprocessing: dict[str, float]
    versions: dict[str, str]


def class_names(module: "LightningModule") -> list[str] | None:
    """Return the class names that the data module of the running trainer knows, if any."""
    datamodule: LightningDataModule | None = getattr(module.trainer, "datamodule", None)
    names = getattr(datamodule, "class_names", None)
    return None if names is None else list(names)


def describe(module: "LightningModule") -> Description:
    """Describe a classifier, and the data module of its trainer, in plain types."""
    datamodule: LightningDataModule | None = getattr(module.trainer, "datamodule", None)
    framing = getattr(datamodule, "framing", None)
    config = {"model": _class_config(module)}
    if datamodule is not None:
        config["data"] = _class_config(datamodule)
    return {
        "config": config,
        "class_names": class_names(module),
        "framing": None if framing is None else asdict(framing),
        "metrics": {name: float(value) for name, value in module.trainer.callback_metrics.items()},
        "preprocessing": {name: module.get_buffer(name).item() for name in ("mean", "std")},
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def _class_config(instance: "LightningModule | LightningDataModule") -> dict[str, Any]:
    cls = type(instance)
    return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": dict(instance.hparams)}


def read(path: Path) -> dict[str, Any]:
    """Return all that a checkpoint holds, without running anything of it; its `Description` is under `KEY`.

    Raises:
        UserError: If the file is not a checkpoint of this project.
    """
    import torch  # not before it is needed: finding a checkpoint, or not, does not wait for it

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"checkpoint {path} cannot be read ({(error.strerror or str(error)).lower()})") from error
    except Exception as error:  # torch raises whatever its readers of zip, tar and pickle happen to raise
        raise UserError(f"{path} is no checkpoint, or damaged; give one that `fit` has written") from error
    if not isinstance(content, dict) or not isinstance(content.get(KEY), dict):
        raise UserError(f"{path} is not a checkpoint of lightning-cnn; give one that its `fit` has written")
    return content


def read_description(path: Path) -> Description:
    """Return what the checkpoint says of itself, without running anything that it contains.

    Raises:
        UserError: If the file is not a checkpoint of this project.
    """
    description: Description = read(path)[KEY]
    return description


def require_same_shapes(expected: Mapping[str, "Tensor"], found: Mapping[str, "Tensor"]) -> None:
    """Refuse weights that do not fit a model.

    Raises:
        UserError: If a weight is missing, left over or of another shape.
    """
    for name in sorted(expected.keys() | found.keys()):
        shapes = [tuple(weights[name].shape) if name in weights else "none" for weights in (expected, found)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"the checkpoint is of another architecture: the model has {shapes[0]} for {name}, the checkpoint "
                f"{shapes[1]}; leave --model out to take the checkpoint's own"
            )


def resolve(reference: str, runs: list[Path], folder_means: str) -> Path:
    """Return the checkpoint file that `reference` means.

    Args:
        reference: A file, a run folder, or `best` or `last` of the newest run.
        runs: The run folders in which to look for `best` and `last`, newest first.
        folder_means: Which checkpoint of a run folder is meant, `best` or `last`.

    Raises:
        UserError: If there is no such checkpoint.
    """
    if reference in ("best", "last"):
        for run in runs:
            if (path := run / FOLDER / f"{reference}.ckpt").is_file():
                return path
        raise UserError(f"no fitting run has a checkpoint {reference}.ckpt; train with `fit` first, or give a file")
    path = Path(reference)
    if path.is_dir():
        path = path / FOLDER / f"{folder_means}.ckpt"
        if not path.is_file():
            raise UserError(f"{reference!r} is not the folder of a run: there is no {path}")
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist; give a file, a run folder, `best` or `last`")
    return path


def run_folders(root: Path) -> list[Path]:
    """Return the folders of all runs below `root` that have checkpoints, the one that last wrote one first."""
    folders = root.glob(f"*/version_*/{FOLDER}")
    return [folder.parent for folder in sorted(folders, key=lambda f: f.stat().st_mtime, reverse=True)]


def run_folder(path: Path) -> Path:
    """Return the run folder that a checkpoint file belongs to, or the folder it lies in."""
    return path.parent.parent if path.parent.name == FOLDER else path.parent
