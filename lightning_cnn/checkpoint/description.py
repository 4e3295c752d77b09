"""What a checkpoint says of itself.

Under the key `lightning_cnn` it holds, as plain types that load without running code, all that is needed to build the
model and its data again.
"""

from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule

KEY = "lightning_cnn"
#: The number of the format that is written now; it grows when earlier versions could not make sense of a checkpoint.
FORMAT = 1
_LIBRARIES = ("lightning-cnn", "torch", "torchvision", "lightning", "torchmetrics", "numpy")


class Description(TypedDict):
    """What a checkpoint says of itself.

    Attributes:
        format: `FORMAT` of the version that wrote it. Not in checkpoints of earlier versions.
        config: Class path and arguments of `model` and `data`, as in a config file; from the command line all of it.
        class_names: Names in the order of the logits; None if the model was trained without a data module that knows.
        framing: How the training images were made from larger ones: `side` and `by_mass`; None likewise. Not in
            checkpoints of earlier versions.
        metrics: What training had last reported when it was written, for example `val/acc`.
        preprocessing: `mean` and `std` of the pixels scaled to [0, 1].
        versions: Version of each library that had a hand in it.
    """

    format: NotRequired[int]
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
        "format": FORMAT,
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


def later_version(description: dict[str, Any]) -> str | None:
    """Return the version that wrote the checkpoint if its format is later than `FORMAT`, otherwise None."""
    written = description.get("format", FORMAT)
    if not isinstance(written, int) or written <= FORMAT:
        return None
    versions = description.get("versions")
    name = versions.get("lightning-cnn") if isinstance(versions, dict) else None
    return name if isinstance(name, str) and _is_word(name) else "it does not say which"


def flaw(description: dict[str, Any]) -> str | None:
    """Return what is wrong with a description that a file gives, or None if it is one."""
    config, names, framing = (description.get(key) for key in ("config", "class_names", "framing"))
    parts = () if not isinstance(config, dict) else (config.get(key) for key in ("model", "data", "trainer"))
    metrics, preprocessing = (description.get(key, {}) for key in ("metrics", "preprocessing"))
    sound = {
        "format": type(description.get("format", FORMAT)) is int and description.get("format", FORMAT) >= 1,
        "config": isinstance(config, dict) and all(isinstance(part, dict | None) for part in parts),
        "class_names": names is None or (isinstance(names, list) and _are_words(names)),
        "framing": framing is None or isinstance(framing, dict),
        "metrics": _are_numbers(metrics),
        "preprocessing": _are_numbers(preprocessing),
        "versions": _are_named_words(description.get("versions", {})),
    }
    wrong = [f"{key!r}" for key, is_sound in sound.items() if not is_sound]
    return f"its description has a wrong {' and '.join(wrong)}" if wrong else None


def _are_numbers(value: object) -> bool:
    return isinstance(value, dict) and _are_words(value) and all(type(item) in (int, float) for item in value.values())


def _are_named_words(value: object) -> bool:
    return isinstance(value, dict) and _are_words(value) and _are_words(value.values())


def _are_words(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) and _is_word(value) for value in values)


def _is_word(text: str) -> bool:
    """Whether a text can be shown as it is, in one line of a terminal."""
    return text.isprintable() and len(text) <= 200
