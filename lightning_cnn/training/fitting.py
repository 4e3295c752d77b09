"""Data and model for a checkpoint: whether they fit it, before memory for the model is allocated."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.classifiers.network import planned
from lightning_cnn.config.class_settings import is_class
from lightning_cnn.config.classes import is_of_known_package
from lightning_cnn.data import ImageDataModule, ImageFolderDataModule
from lightning_cnn.data.base import Part
from lightning_cnn.run import Run


def build_data(
    parser: LightningArgumentParser, config: Namespace, checkpoint: Path, content: dict[str, Any], part: Part | None
) -> ImageDataModule:
    """Return the data module; a folder that is not the one of the training is evaluated as a whole.

    Args:
        parser: Instantiates classes.
        config: The parsed settings.
        checkpoint: The file.
        content: What `checkpoint.read` returns for it.
        part: The part that is evaluated, `val` or `test`; None if training is resumed.
    """
    description: checkpoints.Description = content[checkpoints.KEY]
    classes = description["class_names"]
    channels = content.get("hyper_parameters", {}).get("in_channels")
    used = checkpoints.init_args(description["config"].get("data"))  # in the training

    def find_used(digests: Collection[str]) -> Collection[str] | None:
        return Run.of_checkpoint(checkpoint).read_used_digests(digests) if "root" in used else ()

    def construct(class_type: type[ImageFolderDataModule], *args: Any, **kwargs: Any) -> ImageFolderDataModule:
        data = class_type(*args, **kwargs)
        is_same = all(_resolved(used.get(name)) == _resolved(data.hparams[name]) for name in ("root", "labels"))
        if part is not None and classes is not None and not is_same:
            trained = content.get(class_type.__qualname__, {}).get("crc32_of_files")
            data.evaluate_on(part, classes, channels, trained, find_used)
        return data

    # As it is constructed: the parser then asks it for the number of classes, which is that of the model.
    built = parser.instantiate(
        Namespace(data=config["data"]),  # type: ignore[no-untyped-call]
        instantiators=[(construct, ImageFolderDataModule, True)],
    )
    datamodule: ImageDataModule = built["data"]
    return datamodule


def _resolved(path: str | None) -> Path | None:
    return None if path is None else Path(path).expanduser().resolve()


def require_same_model(parser: LightningArgumentParser, config: Namespace, weights: dict[str, Any]) -> None:
    """Refuse a model that does not fit the weights; it is built without memory.

    Args:
        parser: Instantiates classes.
        config: The parsed settings, with the data module in place of its settings.
        weights: The `state_dict` of the checkpoint.

    Raises:
        UserError: If the model does not fit.
    """
    parts = Namespace({name: config[name] for name in ("model", "data")})  # type: ignore[no-untyped-call]
    parts["model"] = model = parts["model"].clone()
    model["init_args"].pop("metrics", None)  # they are tried with a batch, for which they need values
    classes = [model, *(model["init_args"].get(name) for name in ("network", "loss"))]
    if not all(is_of_known_package(part["class_path"]) for part in classes if is_class(part)):
        return  # a class of the user may need values while it is built
    with planned(len(weights)):
        plan = parser.instantiate(parts)["model"]
    if plan.loss is None:
        weights = {name: weight for name, weight in weights.items() if not name.startswith("loss.")}
    checkpoints.require_same_shapes(plan.state_dict(), weights)
    plan.require_moderate_network()
