"""From the content of a checkpoint to a classifier with its weights, without running code that the checkpoint names.

Used to predict, to export and to distill. `checkpoint.read` has verified the content: `state_dict` maps names to dense
tensors in main memory, and `hyper_parameters` is a dictionary of plain values.
"""

import inspect
from functools import partial
from inspect import isfunction
from typing import Any, cast

from torch import Tensor, nn

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn import classifiers
from lightning_cnn.classifiers.base import ImageClassifier
from lightning_cnn.classifiers.network import PRETRAINED, Network, planned
from lightning_cnn.config.classes import imported, trusted_class
from lightning_cnn.errors import UserError, did_you_mean, reason


def load_classifier(content: dict[str, Any], model: str | None = None) -> ImageClassifier:
    """Build the classifier of a checkpoint with its weights, in float32 and in eval mode.

    Args:
        content: The content of the checkpoint, from `checkpoint.read`.
        model: Path of a classifier or of a network, such as ``wide_mlp.WideMLPClassifier``, as given by the user; its
            module is imported. None for what the checkpoint names, which must be of this package or of
            torchvision.models.

    Raises:
        UserError: If there is no such class, or the hyperparameters or weights do not fit it.
    """
    description: checkpoints.Description = content[checkpoints.KEY]
    cls = _own_class(description) if model is None else _user_class(model)
    # Of the loss, only training needs weights.
    weights: dict[str, Tensor] = {n: w for n, w in content["state_dict"].items() if not n.startswith("loss.")}
    known = set(inspect.signature(cls).parameters)
    has_network = "network" in known
    if "kwargs" in known:  # which are forwarded to the base
        known |= set(inspect.signature(ImageClassifier).parameters)
    # No hyperparameters: predicting needs no others, and reads no file that a checkpoint names.
    known -= {"network", "optimizer", "scheduler", "loss", "metrics", "weights"}
    settings = {name: value for name, value in content.get("hyper_parameters", {}).items() if name in known}
    if has_network:
        settings["network"] = _network(description, cls, model)
    if cls.__module__.startswith("lightning_cnn."):  # a class of the user may need values while it is built
        with planned(len(weights)):
            plan = _build(cls, settings)
        checkpoints.require_same_shapes(plan.state_dict(), weights)
        if model is None:
            plan.require_moderate_network()
    classifier = _build(cls, settings)
    checkpoints.require_same_shapes(classifier.state_dict(), weights)
    classifier.load_state_dict(weights)
    return classifier.eval()


def _build(cls: type[ImageClassifier], settings: dict[str, Any]) -> ImageClassifier:
    try:
        return cls(**settings)
    except (TypeError, ValueError, ArithmeticError, RuntimeError, MemoryError) as error:
        why = reason(error).splitlines()[0]
        raise UserError(f"{cls.__name__} does not accept the hyperparameters in the checkpoint: {why}") from error


def _own_class(description: checkpoints.Description) -> type[ImageClassifier]:
    """Return the class of this package that the checkpoint names, without importing anything."""
    path = checkpoints.class_path(description, "model")
    if path is None:
        raise UserError("the checkpoint does not name its class; name it with `--model`")
    cls = trusted_class(path, (ImageClassifier,), named=())
    if cls is None:
        raise UserError(_not_ours("class", path, "classifier"))
    return cast(type[ImageClassifier], cls)


def _network(description: checkpoints.Description, cls: type[ImageClassifier], given: str | None) -> Network:
    """Return what builds the network of a classifier: as the checkpoint says, or what the user has given."""
    recorded = checkpoints.init_args(description["config"].get("model")).get("network")
    if given is not None and cls is ImageClassifier:
        builder = _named_by_user(given)
    else:
        path = recorded.get("class_path") if isinstance(recorded, dict) else None
        if not isinstance(path, str):
            raise UserError("the checkpoint does not name its network; name it with `--model`")
        found = trusted_class(path, (nn.Module,), named=[given] if given else (), builders=True)
        if found is None:
            raise UserError(_not_ours("network", path, "network"))
        builder = found
    arguments = checkpoints.init_args(recorded)
    return partial(builder, **{name: value for name, value in arguments.items() if name not in PRETRAINED})


def _not_ours(kind: str, path: str, own: str) -> str:
    return (
        f"the checkpoint names the {kind} {path}, which is not one of lightning-cnn; "
        f"if it is your own {own}, add `--model {path}`"
    )


def _user_class(path: str) -> type[ImageClassifier]:
    """Return the class that the user names; without a module it is one of this package.

    For a network, it is the class of the classifier around it.
    """
    module, _, name = path.rpartition(".")
    known = [known for known in classifiers.__all__ if known.endswith("Classifier") and known != "ImageClassifier"]
    if not module and name not in known:
        raise UserError(
            f"--model {path}: there is no such class (choose from {', '.join(known)}, or give your own as "
            f"module.Class){did_you_mean(name, known)}"
        )
    found = _named_by_user(path)
    if isinstance(found, type) and issubclass(found, ImageClassifier) and found is not ImageClassifier:
        return found
    if isfunction(found) or (isinstance(found, type) and issubclass(found, nn.Module) and found is not ImageClassifier):
        return ImageClassifier
    raise UserError(f"{path} is neither a subclass of ImageClassifier nor a network; name one with `--model`")


def _named_by_user(path: str) -> Any:
    """Return what the user names; without a module it is of this package."""
    module, _, name = path.rpartition(".")
    found = imported(module or classifiers.__name__, name, f"--model {path}")
    if found is None:
        raise UserError(f"--model {path}: there is no such class (the module {module} has no {name!r})")
    return found
