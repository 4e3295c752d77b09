"""Which classes are trusted when a checkpoint names them: one rule, for every command.

A checkpoint may be untrusted, so no module is imported only because a checkpoint names it. Trusted are classes of this
package, of PyTorch's libraries and of Lightning that are imported already, and classes of modules that the user has
named; of torchvision.models also functions, which build networks.
Imports nothing heavy, so that `predict` can use it.
"""

import sys
from collections.abc import Callable, Collection
from importlib import import_module
from inspect import isfunction, signature
from typing import Any, cast, get_type_hints

from lightning_cnn.errors import UserError
from lightning_cnn.text import in_one_line

#: Packages whose modules a checkpoint may name.
_PACKAGES = (
    "lightning_cnn",
    "torch.nn",
    "torch.optim",
    "torchmetrics",
    "torchvision.models",
    "torchvision.transforms",
    "lightning.pytorch",
    "lightning.fabric",
)
#: A part of them with functions that build networks.
_BUILDERS = "torchvision.models"
#: Where PyTorch has its losses.
_LOSSES = "torch.nn.modules.loss"


def trusted_class(
    path: str, bases: tuple[type[Any], ...], named: Collection[str], builders: bool = False
) -> type[Any] | None:
    """Return the class that a checkpoint names, or None if it is not trusted.

    Args:
        path: The class path in the checkpoint.
        bases: The classes of which it must be a subclass, unless the user has named its module.
        named: All text that the user has given; a class path in it makes the classes of its module trusted.
        builders: Whether a function that returns an object of these classes is meant as well, which is trusted if the
            user has named the function itself, or if it builds networks of torchvision.models.

    Raises:
        UserError: If a module that the user has named cannot be imported.
    """
    module, _, name = path.rpartition(".")
    if is_class_path(path) and module in {text.rpartition(".")[0] for text in named if is_class_path(text)}:
        found = imported(module, name, path)
        is_own = path in named or _within(getattr(found, "__module__", ""), (module.partition(".")[0],))
        if (isinstance(found, type) and is_own) or (builders and isfunction(found) and path in named):
            return cast(type[Any], found)
    if not _within(module, _PACKAGES) or any(part.startswith("__") for part in path.split(".")):
        return None
    if _within(module, ("torchvision",)):
        import_module("torchvision.models")
        import_module("torchvision.transforms.v2")
    found = getattr(sys.modules.get(module), name, None)
    if builders and isfunction(found) and _within(found.__module__, (_BUILDERS,)) and _builds(found, bases):
        return cast(type[Any], found)
    if not isinstance(found, type) or not issubclass(found, bases) or _may_download(found):
        return None
    # A layer alone is neither a network nor a loss nor a transform, and can be as large as its arguments say.
    is_layer = _within(found.__module__, ("torch.nn",)) and found.__module__ != _LOSSES
    return found if _within(found.__module__, _PACKAGES) and not is_layer else None


def _builds(function: Callable[..., Any], bases: tuple[type[Any], ...]) -> bool:
    """Whether a function says that it returns an object of one of these classes, and downloads no weights by itself."""
    parameters = signature(function).parameters
    returned = get_type_hints(function).get("return")
    downloads = "weights_backbone" in parameters or getattr(parameters.get("weights"), "default", "") is not None
    return isinstance(returned, type) and issubclass(returned, bases) and not downloads


def _may_download(cls: type[Any]) -> bool:
    """Whether a class may download a model that one of its arguments names: metrics of text and of pictures do."""
    return _within(cls.__module__, ("torchmetrics",)) and not _within(cls.__module__, ("torchmetrics.classification",))


def is_class_path(text: str) -> bool:
    """Whether a text has the form of a name in a module, as in `torch.optim.Adam`."""
    parts = text.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


def is_of_known_package(path: str) -> bool:
    """Whether a class path names something in a package whose classes are trusted."""
    return _within(path.rpartition(".")[0], _PACKAGES)


def _within(module: str, packages: Collection[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def imported(module: str, name: str, given: str) -> Any:
    """Return what has this name in a module that the user has named; None if nothing has.

    Args:
        module: The module, which is imported.
        name: The name.
        given: What the user has given, for the message.

    Raises:
        UserError: If the module cannot be imported.
    """
    try:
        return getattr(import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{given}: there is no module {error.name!r} on Python's path; "
            "`python -m lightning_cnn` finds modules in the current folder"
        ) from error
    except ValueError:  # an empty name
        return None
    except Exception as error:  # whatever code of the user's own raises
        raise UserError(
            f"{given}: the module {module} cannot be imported ({type(error).__name__}: {in_one_line(error)})"
        ) from error
