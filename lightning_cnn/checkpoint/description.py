"""What a checkpoint says about itself, under the key `lightning_cnn`.

It holds, as plain types, all that is needed to build the model and its data again. The classifier writes it into every
checkpoint; reading, prediction, reports and resuming use it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from lightning_cnn.errors import UserError

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule

KEY = "lightning_cnn"
#: The key, beside the states of Lightning's loops, of what exact resuming needs beyond them.
RESUME_KEY = "exact_resume"
#: The number of the format; it is incremented when earlier versions cannot read a checkpoint.
FORMAT = 1
#: The largest mean, and the smallest and largest standard deviation, of pixels scaled to [0, 1].
_LARGEST, _SMALLEST = 1e6, 1e-6
#: Characters of the longest name.
_LONGEST = 200
_LIBRARIES = ("lightning-cnn", "torch", "torchvision", "lightning", "torchmetrics", "numpy")


class Description(TypedDict):
    """What a checkpoint says about itself.

    Attributes:
        format: `FORMAT` of the version that wrote it.
        config: `class_path` and `init_args` of `model` and `data`; from the command line, the whole config of the run.
        class_names: Names in the order of the logits; None without a data module that has them.
        framing: How the training images were made from larger ones, arguments of a `Framing` or a `Resize`; or None.
        metrics: The last values that training logged, for example `val/acc`.
        preprocessing: `mean` and `std` of the pixels scaled to [0, 1], a number or a list with one for each channel.
        threads: Number of threads that torch computed with, on which the rounding of sums depends; only of runs in one
            process.
        versions: Version of each library that was used.
    """

    format: int
    config: dict[str, Any]
    class_names: list[str] | None
    framing: dict[str, Any] | None
    metrics: dict[str, float]
    preprocessing: dict[str, float | list[float]]
    threads: NotRequired[int]
    versions: dict[str, str]


def class_names(module: "LightningModule") -> list[str] | None:
    """Return the class names of the data module of the running trainer, if it has any."""
    names = getattr(_datamodule(module), "class_names", None)
    return None if names is None else list(names)


def are_names(values: Iterable[str]) -> bool:
    """Whether texts can be shown as they are, in one line of a terminal."""
    return all(value.isprintable() and len(value) <= _LONGEST for value in values)


def are_class_names(names: Sequence[str]) -> bool:
    """Whether each class has a name of its own that can be shown."""
    return len({*names}) == len(names) > 0 and all(names) and are_names(names)


def require_class_names(names: Sequence[str]) -> None:
    """Refuse class names that could not be told apart or shown.

    Raises:
        UserError: If there are some.
    """
    if not are_class_names(names):
        wrong = [name for name in names if not name or names.count(name) > 1 or not are_names([name])]
        raise UserError(
            f"classes must have different names of at most {_LONGEST} printable characters, "
            f"got {[*(wrong or names)][:3]!r:.300}; rename them"
        )


def are_statistics(mean: Iterable[float], std: Iterable[float]) -> bool:
    """Whether images can be normalised with these: NaN and infinity are not numbers, and 0 is not a divisor."""
    return all(abs(value) <= _LARGEST for value in mean) and all(_SMALLEST <= value <= _LARGEST for value in std)


def class_path(description: Description, section: Literal["model", "data"]) -> str | None:
    """Return the class of the model or the data as the checkpoint names it, in dots; None if it names none.

    Only the form of the name is checked: the caller decides whether that class may be imported.
    """
    settings = description["config"].get(section)
    path = settings.get("class_path") if isinstance(settings, dict) else None
    return path if isinstance(path, str) and all(map(str.isidentifier, path.split("."))) else None


def label_smoothing(description: Description) -> float:
    """Return the label smoothing that a classifier was trained with, its own or that of its loss; or else 0."""
    settings = init_args(description["config"].get("model"))
    for arguments in (settings, init_args(settings.get("loss"))):
        value = arguments.get("label_smoothing")
        if isinstance(value, float | int) and 0 < value <= 1:
            return float(value)
    return 0.0


def init_args(settings: Any) -> dict[str, Any]:
    """Return the `init_args` of a class in a config, which may be any plain value."""
    arguments = settings.get("init_args") if isinstance(settings, dict) else None
    return arguments if isinstance(arguments, dict) else {}


def describe(module: "LightningModule") -> Description:
    """Describe a classifier, and the data module of its trainer, in plain types."""
    import torch

    datamodule = _datamodule(module)
    framing = getattr(datamodule, "framing", None)
    parts = {"model": module, "data": datamodule}
    description: Description = {
        "format": FORMAT,
        "config": {name: _class_config(part) for name, part in parts.items() if part is not None},
        "class_names": class_names(module),
        "framing": None if framing is None else asdict(framing),
        "metrics": {name: float(value) for name, value in module.trainer.callback_metrics.items()},
        "preprocessing": {name: module.get_buffer(name).squeeze().tolist() for name in ("mean", "std")},
        "versions": {**_versions()},
    }
    if module.trainer.world_size == 1:
        description["threads"] = torch.get_num_threads()
    return description


@cache  # looking them up takes 10 ms, in every checkpoint
def _versions() -> dict[str, str]:
    return {name: version(name) for name in _LIBRARIES}


def _datamodule(module: "LightningModule") -> "LightningDataModule | None":
    return getattr(module.trainer, "datamodule", None)


def _class_config(instance: "LightningModule | LightningDataModule") -> dict[str, Any]:
    cls = type(instance)
    arguments = dict(instance.hparams)
    if "network" in signature(cls).parameters and (network := getattr(instance, "network_config", None)) is not None:
        arguments["network"] = network
    return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": arguments}
