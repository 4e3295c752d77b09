"""Settings that take a class: which classes each of them takes, and the arguments of a class as settings."""

import inspect
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from inspect import isfunction
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin

from jsonargparse import ArgumentParser
from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch import Callback
from lightning.pytorch.accelerators import Accelerator, AcceleratorRegistry
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy, StrategyRegistry
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Metric, classification

from lightning_cnn import networks
from lightning_cnn.classifiers import ImageClassifier, losses
from lightning_cnn.config.classes import imported
from lightning_cnn.data import ImageDataModule
from lightning_cnn.data.augment import Augmentation
from lightning_cnn.errors import UserError, did_you_mean

#: The base classes that a setting with this name takes, wherever it is.
BASES: dict[str, tuple[type[Any], ...]] = {
    "model": (ImageClassifier,),
    "data": (ImageDataModule,),
    "optimizer": (Optimizer,),
    "scheduler": (LRScheduler,),
    "augment": (Augmentation,),
    "network": (nn.Module,),
    "loss": (nn.Module,),
    "model.metrics": (Metric,),  # each of them
    "callbacks": (Callback,),
    "logger": (Logger,),
    "profiler": (Profiler,),
    "strategy": (Strategy,),
    "accelerator": (Accelerator,),
    "plugins": (CheckpointIO, ClusterEnvironment, LayerSync, Precision),
}
#: Those of them that take nothing but a class; the others also take other values, such as `false`.
ONLY_CLASSES = ("model", "data", "optimizer", "scheduler", "augment", "network", "loss", "model.metrics", "callbacks")
#: The names that the Trainer knows for some of them; any other text is the name of a class.
_NAMES: dict[str, Callable[[], Collection[str]]] = {
    "accelerator": lambda: {"auto", "gpu", *AcceleratorRegistry.available_accelerators()},
    "strategy": lambda: {"auto", *StrategyRegistry.available_strategies()},
    "profiler": lambda: {"simple", "advanced", "pytorch", "xla"},
}
#: Arguments that are not for the user to give: the parameters to optimize, the optimizer to schedule.
_INJECTED = {Optimizer: "params", LRScheduler: "optimizer"}
#: Arguments of a model that follow from the data.
LINKED = ("num_classes", "in_channels", "image_size")
#: Names without a module, where only some of the subclasses are meant.
_CHOICES: dict[str, Callable[[], Collection[str]]] = {
    "network": lambda: networks.__all__,
    "loss": lambda: {*losses.__all__, *(name for name in dir(nn) if name.endswith("Loss"))},
    "model.metrics": lambda: {name for name in dir(classification) if name.startswith("Multiclass")},
}
#: The keys of a setting that names a class.
CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")


def kind_of(place: tuple[str, ...]) -> str:
    """Return the key of `BASES` for a setting, if it takes a class.

    Example:
        >>> kind_of(("model", "metrics", "f1")), kind_of(("model", "optimizer"))
        ('model.metrics', 'optimizer')
    """
    if place[:-1] == ("model", "metrics"):
        return "model.metrics"
    return place[-1] if place else ""


def is_class(value: object) -> bool:
    """Whether a value in a tree names a class with its arguments."""
    return isinstance(value, Mapping) and "class_path" in value


def names_class(place: tuple[str, ...], value: object) -> bool:
    """Whether a value in a tree is the name of a class, and not a name that the Trainer knows, such as `ddp`."""
    kind = kind_of(place)
    if not isinstance(value, str) or kind not in BASES:
        return False
    known = _NAMES[kind]() if kind in _NAMES else ()
    return value not in known and (kind == "accelerator" or value.lower() not in known)  # as Lightning compares


def find_class(place: tuple[str, ...], name: str) -> type[Any]:
    """Return the class that a user has named for a setting, or for a network the function; its module is imported.

    Args:
        place: The names that lead to the setting, for example `("model", "optimizer")`.
        name: The name of the class, with or without its module.

    Raises:
        UserError: If there is no such class, or it is not of the kind that the setting takes.
    """
    kind = kind_of(place)
    bases = BASES[kind]
    module, _, short = name.rpartition(".")
    if module and not name.startswith("."):
        if (found := imported(module, short, f"{flag_of(place)} {name}")) is not None:
            _require_kind(found, kind, f"{flag_of(place)} {name}")
            return cast(type[Any], found)
    elif kind == "network":
        if name in networks.__all__:
            return cast(type[Any], getattr(networks, name))
    elif found := [cls for cls in _classes(bases) if cls.__name__ == name]:
        if len(found) == 1:
            _require_kind(found[0], kind, f"{flag_of(place)} {name}")
            return found[0]
        paths = [f"{cls.__module__}.{cls.__name__}" for cls in found]
        raise UserError(f"{flag_of(place)} {name}: several classes have this name; give {' or '.join(paths)}")
    raise UserError(f"{flag_of(place)} {name}: {no_such_class(kind, short)}")


def _require_kind(found: object, kind: str, given: str) -> None:
    """Refuse what is not of the kind that a setting takes.

    Raises:
        UserError: If it is not.
    """
    builds = isfunction(found) and kind == "network"
    if not isinstance(found, type) and not builds:
        wanted = "neither a class nor a function that returns a network" if kind == "network" else "not a class"
        raise UserError(f"{given}: this is {wanted}, but of the type {type(found).__name__}; {_others(kind)}")
    if not builds and not issubclass(cast(type, found), BASES[kind]):
        wanted = " or ".join(f"{base.__module__.partition('.')[0]}'s {base.__name__}" for base in BASES[kind])
        raise UserError(f"{given}: this class is not a subclass of {wanted}; {_others(kind)}")
    if kind == "model.metrics" and next(iter(arguments(cast(type[Any], found))), None) != "num_classes":
        raise UserError(
            f"{given}: this metric does not take num_classes as its first argument, as those of "
            f"torchmetrics.classification for several classes do; {_others(kind, getattr(found, '__name__', ''))}"
        )


def _others(kind: str, name: str = "") -> str:
    """Return what to name in place of a class that is refused."""
    suggestion = suggest_class(kind, name).removeprefix("; ")
    return suggestion if suggestion.startswith("did you") else f"name another{suggestion}"


def arguments(cls: type[Any]) -> dict[str, inspect.Parameter]:
    """Return the arguments of a class that a user can give, those that it passes on included."""
    found: dict[str, inspect.Parameter] = {}
    passes_on = False
    if isfunction(cls):
        return {p.name: p for p in inspect.signature(cls).parameters.values() if p.kind is not p.VAR_KEYWORD}
    for owner in cls.__mro__[:-1]:
        if "__init__" not in vars(owner):
            continue
        own = list(inspect.signature(vars(owner)["__init__"]).parameters.values())[1:]
        found = {p.name: p for p in own if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)} | found
        if not any(p.kind is p.VAR_KEYWORD for p in own):
            break
        passes_on = True
    if passes_on and cls.__module__.partition(".")[0] != "lightning_cnn":  # ours pass arguments on to a base only
        found = {**resolved(cls)[0], **found}  # type: ignore[arg-type]  # mypy 2.4 takes no class for hashable
    for base, injected in _INJECTED.items():
        if issubclass(cls, base):
            found.pop(injected, None)
    if issubclass(cls, ImageClassifier) and "network" not in inspect.signature(cls).parameters:
        found.pop("network", None)  # which the class itself gives to its base
    return found


def takes_any(builder: Callable[..., Any]) -> bool:
    """Whether a function passes arguments on that its signature does not name."""
    return isfunction(builder) and any(p.kind is p.VAR_KEYWORD for p in inspect.signature(builder).parameters.values())


def import_path(found: type[Any]) -> str:
    """Return the shortest path by which a class or function can be imported: `torch.optim.Adam`, not `….adam.Adam`."""
    parts = found.__module__.split(".")
    modules = (".".join(parts[: n + 1]) for n in range(len(parts)))
    name = found.__name__
    return next(
        (f"{m}.{name}" for m in modules if getattr(sys.modules.get(m), name, None) is found),
        f"{found.__module__}.{name}",
    )


def required(cls: type[Any]) -> list[str]:
    """Return the arguments that must be given; those of a base class may be given by the class itself."""
    own = inspect.signature(cls).parameters
    builds_network = isfunction(cls) or issubclass(cls, nn.Module)  # which gets the shape of the images
    return [
        name
        for name, parameter in arguments(cls).items()
        if name in own and parameter.default is parameter.empty and not (builds_network and name in LINKED)
    ]


@cache
def resolved(cls: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], dict[str, str]]:
    """Return all arguments of a class or function that passes some on to whatever code, and what is said of each.

    The parser reads their source, and their docstrings.
    """
    parser = ArgumentParser()
    add = parser.add_function_arguments if isfunction(cls) else parser.add_class_arguments
    names = add(cast(type[Any], cls), fail_untyped=False)
    defaults = parser.get_defaults()
    texts = {action.dest: action.help or "" for action in parser._actions}
    return {n: inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=defaults[n]) for n in names}, texts


def kinds(annotation: Any) -> list[Any]:
    """Return the types that an annotation allows, without None.

    Example:
        >>> kinds(int | str | None)
        [<class 'int'>, <class 'str'>]
    """
    union = get_origin(annotation) in (Union, UnionType)
    return [kind for kind in (get_args(annotation) if union else (annotation,)) if kind is not NoneType]


def describe_type(annotation: Any) -> str:
    """Return the values that an annotation allows, in a few words.

    Example:
        >>> describe_type(int | float | None), describe_type(int | tuple[int, int]), describe_type(list[float])
        ('int or float', 'int or [int, int]', '[float, …]')
    """
    if get_origin(annotation) in (Union, UnionType):
        allowed = kinds(annotation)
        if all(get_origin(kind) is Literal for kind in allowed):
            return describe_type(Literal[tuple(value for kind in allowed for value in get_args(kind))])
        return " or ".join(dict.fromkeys(map(describe_type, allowed)))
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(map(repr, get_args(annotation)))}"
    if get_origin(annotation) in (list, tuple) and (items := get_args(annotation)):
        shown = [describe_type(item) for item in items if item is not Ellipsis]
        return f"[{', '.join(shown)}{', …' if get_origin(annotation) is list or Ellipsis in items else ''}]"
    if get_origin(annotation) is not None:
        return describe_type(get_origin(annotation))
    return getattr(annotation, "__name__", str(annotation))


def flag_of(place: tuple[str, ...]) -> str:
    """Return the flag of a setting, from the names that lead to it."""
    return f"--{'.'.join(place)}"


def no_such_class(setting: str, name: str) -> str:
    """Return that a setting takes no class with this name, and what it takes."""
    singular = setting if setting == "loss" else setting.rpartition(".")[2].removesuffix("s")
    kind = singular + ("" if setting in _NAMES else " class")
    return f"there is no such {kind}{suggest_class(setting, name)}"


def suggest_class(setting: str, name: str = "") -> str:
    """Return the class that was probably meant, or all that a setting takes, to be added to a message."""
    if setting in _CHOICES:
        return suggest(name, sorted(_CHOICES[setting](), key=str.swapcase))
    classes = _classes(BASES[setting])
    known = {cls.__name__ for cls in classes if not cls.__module__.startswith("lightning_cnn.training")}  # internals
    known |= {*_NAMES.get(setting, set)()}
    return suggest(name, sorted((name for name in known if not name.startswith("_")), key=str.swapcase))


def suggest(name: str, known: list[str]) -> str:
    """Return which of the names was probably meant, or all of them, to be added to a message."""
    choice = textwrap.shorten(", ".join(known), 600, placeholder=" …")
    return did_you_mean(name, known) or (f" (choose from {choice})" if known else "")


def _classes(bases: tuple[type[Any], ...]) -> Iterator[type[Any]]:
    """Yield the subclasses of base classes; `ImageClassifier` is one of its own."""
    yield from (base for base in bases if base is ImageClassifier)
    yield from _subclasses(bases)


def _subclasses(bases: tuple[type[Any], ...]) -> Iterator[type[Any]]:
    for base in bases:
        for child in base.__subclasses__():
            yield child
            yield from _subclasses((child,))
