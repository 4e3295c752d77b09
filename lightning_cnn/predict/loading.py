"""From a checkpoint to a classifier with its weights, without running anything because a checkpoint says so."""

import inspect
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn import classifiers
from lightning_cnn.classifiers.base import ImageClassifier
from lightning_cnn.errors import UserError

#: Where the classes of this package are, as checkpoints name them; these are the only names that are believed.
_OWN_MODULES = ("lightning_cnn.classifiers", "lightning_cnn.classifiers.zoo")


def load_classifier(content: dict[str, Any], model: str | None = None) -> ImageClassifier:
    """Build the classifier of a checkpoint, with its weights, in float32 and in eval mode.

    Args:
        content: What `checkpoint.read` returns.
        model: The class, for example ``wide_mlp.WideMLPClassifier``, whose module is imported: only ever what the user
            has named. None takes the class of this package that the checkpoint names.

    Raises:
        UserError: If there is no such class, or settings or weights of the checkpoint do not fit it.
    """
    cls = _own_class(content) if model is None else _named_class(model)
    weights = _weights(content)
    parameters = dict(inspect.signature(cls).parameters)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):  # forwarded to the base
        parameters = {**inspect.signature(ImageClassifier).parameters, **parameters}
    known = parameters.keys() - {"network"}
    settings = {name: value for name, value in _settings(content).items() if name in known}
    if cls.__module__ in _OWN_MODULES:  # a class of the user's may need numbers while it is built
        with torch.device(
            "meta"
        ):  # without memory: settings may ask for any amount of it, that the weights do not fill
            checkpoints.require_same_shapes(_build(cls, settings).state_dict(), weights)
    classifier = _build(cls, settings)
    checkpoints.require_same_shapes(classifier.state_dict(), weights)
    _require_numbers(weights)
    classifier.load_state_dict(weights)
    return classifier.eval()


def _build(cls: type[ImageClassifier], settings: dict[str, Any]) -> ImageClassifier:
    try:
        return cls(**settings)
    except (TypeError, ValueError, ArithmeticError, RuntimeError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{cls.__name__} does not take the settings in the checkpoint: {reason}") from error


def _weights(content: dict[str, Any]) -> dict[str, Tensor]:
    weights = content.get("state_dict")
    if not isinstance(weights, dict) or not all(_is_weight(*item) for item in weights.items()):
        raise UserError("the checkpoint has no weights; give one that `fit` has written")
    return weights


def _is_weight(name: object, value: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout is torch.strided
        and not (value.is_meta or value.is_quantized)
    )


def _require_numbers(weights: dict[str, Tensor]) -> None:
    wrong = {name for name, weight in weights.items() if not weight.isfinite().all()}
    if wrong - {"mean", "std"}:
        raise UserError("the weights in the checkpoint are no numbers: training has diverged; take another checkpoint")
    if wrong:
        raise UserError(f"the {' and '.join(sorted(wrong))} of pixels in the checkpoint is no number; take another one")


def _own_class(content: dict[str, Any]) -> type[ImageClassifier]:
    """The class that the checkpoint names, if it is one of this package; nothing is imported to find it."""
    path = _class_path(content)
    module, _, name = path.rpartition(".")
    cls = getattr(classifiers, name, None) if module in _OWN_MODULES and name in classifiers.__all__ else None
    if cls is None:
        raise UserError(
            f"the checkpoint is of the class {path}, which is not one of lightning-cnn; "
            f"if it is a classifier of yours, add `--model {path}`"
        )
    return _require_classifier(cls, path)


def _class_path(content: dict[str, Any]) -> str:
    config = content[checkpoints.KEY].get("config")
    model = config.get("model") if isinstance(config, dict) else None
    path = model.get("class_path") if isinstance(model, dict) else None
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")):
        raise UserError("the checkpoint does not say which class it is of; name it with `--model`")
    return path


def _settings(content: dict[str, Any]) -> dict[str, Any]:
    """The arguments that the classifier was made with, those of them that are plain."""
    settings = content.get("hyper_parameters")
    return settings if isinstance(settings, dict) else {}


def _named_class(path: str) -> type[ImageClassifier]:
    """The class that the user names; without a module it is one of this package."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module) if module else classifiers, name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"--model {path}: there is no such class ({error}); "
            "`python -m lightning_cnn` finds modules in the folder that you are in"
        ) from error
    return _require_classifier(found, path)


def _require_classifier(found: object, path: str) -> type[ImageClassifier]:
    if not isinstance(found, type) or not issubclass(found, ImageClassifier) or found is ImageClassifier:
        raise UserError(f"{path} is no subclass of ImageClassifier; name one with `--model`")
    return found
