"""From a checkpoint to a classifier with its weights, without running anything because a checkpoint says so."""

import inspect
from importlib import import_module
from typing import Any

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
    settings, weights = _settings(content), content.get("state_dict")
    if not isinstance(weights, dict) or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise UserError("the checkpoint has no weights; give one that `fit` has written")
    known = inspect.signature(cls).parameters
    try:
        classifier = cls(**{name: value for name, value in settings.items() if name in known})
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{cls.__name__} does not take the settings in the checkpoint: {reason}") from error
    checkpoints.require_same_shapes(classifier.state_dict(), weights)
    if any(not tensor.isfinite().all() for tensor in weights.values()):
        raise UserError("the weights in the checkpoint are no numbers: training has diverged; take another checkpoint")
    classifier.load_state_dict(weights)
    return classifier.eval()


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
