"""Which classes are trusted when a checkpoint names them: one rule, for every command.

A checkpoint may be untrusted, so no module is imported only because a checkpoint names it. Trusted are classes of this
package, of torch.optim and of Lightning that are imported already, and classes of modules that the user has named.
Imports nothing heavy, so that `predict` can use it.
"""

import sys
from collections.abc import Collection
from importlib import import_module
from typing import Any

#: Packages whose modules a checkpoint may name.
_PACKAGES = ("lightning_cnn", "torch.optim", "lightning.pytorch", "lightning.fabric")


def trusted_class(path: str, bases: tuple[type[Any], ...], named: Collection[str]) -> type[Any] | None:
    """Return the class that a checkpoint names, or None if it is not trusted.

    Args:
        path: The class path in the checkpoint.
        bases: The classes of which it must be a subclass, unless the user has named its module.
        named: All text that the user has given; a class path in it makes its module trusted.
    """
    module, _, name = path.rpartition(".")
    if is_class_path(path) and module in {text.rpartition(".")[0] for text in named if is_class_path(text)}:
        found = getattr(_import_named(module), name, None)
        is_own = isinstance(found, type) and (path in named or _within(found.__module__, (module.partition(".")[0],)))
        return found if is_own else None
    if not _within(module, _PACKAGES) or any(part.startswith("__") for part in path.split(".")):
        return None
    found = getattr(sys.modules.get(module), name, None)
    is_known = isinstance(found, type) and _within(found.__module__, _PACKAGES) and issubclass(found, bases)
    return found if is_known else None


def is_class_path(text: str) -> bool:
    """Whether a text has the form of a name in a module, as in `torch.optim.Adam`."""
    parts = text.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


def is_of_known_package(path: str) -> bool:
    """Whether a class path names something in a package whose classes are trusted."""
    return _within(path.rpartition(".")[0], _PACKAGES)


def _within(module: str, packages: Collection[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _import_named(module: str) -> object:
    """Return a module that the user has named; None if it cannot be imported."""
    try:
        return import_module(module)
    except ImportError:
        return None
