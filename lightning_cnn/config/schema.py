"""What can be set: the settings of a command, the classes that they take, and the arguments of these classes.

A tree of settings is checked against it before the parser sees it, so that the messages about unknown names and classes
are ours and name the setting as a flag. Types of values are left to the parser.
"""

import inspect
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
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
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.config.yaml import describe
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
    "callbacks": (Callback,),
    "logger": (Logger,),
    "profiler": (Profiler,),
    "strategy": (Strategy,),
    "accelerator": (Accelerator,),
    "plugins": (CheckpointIO, ClusterEnvironment, LayerSync, Precision),
}
#: Those of them that take nothing but a class; the others also take other values, such as `false`.
_ONLY_CLASSES = ("model", "data", "optimizer", "scheduler", "augment", "callbacks")
#: The names that the Trainer knows for some of them; any other text is the name of a class.
_NAMES: dict[str, Callable[[], Collection[str]]] = {
    "accelerator": lambda: {"auto", "gpu", *AcceleratorRegistry.available_accelerators()},
    "strategy": lambda: {"auto", *StrategyRegistry.available_strategies()},
    "profiler": lambda: {"simple", "advanced", "pytorch", "xla"},
}
#: Arguments that are not for the user to give: the parameters to optimize, the optimizer to schedule, the network.
_INJECTED = {Optimizer: "params", LRScheduler: "optimizer", ImageClassifier: "network"}
#: Settings that are folders, of this machine in any case …
LOCAL_FOLDERS = ("data_dir", "default_root_dir")
#: … or also, for Lightning's own classes, elsewhere.
FOLDERS = (*LOCAL_FOLDERS, "dirpath", "save_dir")
#: What other programs call some settings.
_ELSEWHERE = {
    "lr": "model.optimizer.lr",
    "learning_rate": "model.optimizer.lr",
    "optimizer": "model.optimizer",
    "lr_scheduler": "model.scheduler",
    "scheduler": "model.scheduler",
    "epochs": "trainer.max_epochs",
    "batch_size": "data.batch_size",
    "seed": "seed_everything",
}
#: The keys of a setting that names a class.
CLASS_KEYS = ("class_path", "init_args", "dict_kwargs")


@dataclass(frozen=True)
class Schema:
    """The settings of a command.

    Args:
        groups: Classes whose arguments are settings, by the name that these settings have in common, such as `trainer`.
        options: The types of all other settings but `model` and `data`, by name.
    """

    groups: Mapping[str, type[Any]]
    options: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        """The names at the top of a tree of settings."""
        return [*self.options, *self.groups, "model", "data"]

    def flags(self) -> list[str]:
        """The flags of all settings but those of classes that the user chooses."""
        below = [f"--{group}.{name}" for group, cls in self.groups.items() for name in arguments(cls)]
        return [*(f"--{name}" for name in (*self.names, "config", "help", "print_config")), *below]

    def check(self, tree: Mapping[str, Any]) -> None:
        """Refuse a complete tree of settings with unknown names or classes, or with a class that lacks an argument.

        Raises:
            UserError: If there is one; the message names the setting as a flag.
        """
        for key, value in tree.items():
            if key in self.groups:
                self._check_group(key, value)
            elif key in BASES:
                _check_value((key,), value)
            elif key not in self.options:
                raise self.no_such_option(key)
            elif value is None and NoneType not in get_args(self.options[key]):
                raise UserError(f"--{key} null: expected {describe_type(self.options[key])}")
        if missing := [key for key in ("model", "data") if tree.get(key) is None]:
            raise UserError(
                f"{' and '.join(missing)} not given; use --config FILE (see the folder configs), "
                "or --model and --data with class names"
            )

    def find(
        self, tree: Mapping[str, Any], names: Sequence[str], is_meant: Callable[[Any], bool] = lambda _: True
    ) -> tuple[Any, Any]:
        """Return the value of a setting in a tree, and the annotation of the argument that it is for.

        Args:
            tree: The tree of settings.
            names: The names that lead to the setting, for example `("model", "optimizer", "lr")`.
            is_meant: Of several callbacks with this argument, chooses one by its value; the first if none is chosen.

        Raises:
            LookupError: If there is no such setting.
        """
        first, *rest = names
        value = tree[first]
        owner = self.groups.get(first) or (find_class((first,), value["class_path"]) if is_class(value) else None)
        annotation = self.options.get(first)
        for name in rest:
            if isinstance(value, list):
                having = [item for item in value if is_class(item) and name in item.get("init_args", {})]
                value = next((item for item in having if is_meant(item["init_args"][name])), having[0])
                owner = find_class((names[-2],), value["class_path"])
            value = value["init_args"] if is_class(value) else value
            annotation = arguments(owner)[name].annotation if owner else None
            value = value[name]
            owner = find_class((name,), value["class_path"]) if is_class(value) else None
        return value, annotation

    def no_such_option(self, name: str, beside: Sequence[str] = ()) -> UserError:
        """Return the error about an unknown setting, which suggests one of the schema, or one that is `beside` it."""
        known = [*self.flags(), *(f"--{other}" for other in beside)]
        first, dot, rest = name.partition(".")
        ours = f"--{_ELSEWHERE.get(first)}{dot}{rest}"
        meant = f"; did you mean {ours!r}?" if first in _ELSEWHERE else did_you_mean(f"--{name}", known)
        return UserError(f"there is no option --{name}{meant}")

    def _check_group(self, group: str, settings: object) -> None:
        if not isinstance(settings, Mapping):
            example = next(iter(arguments(self.groups[group])))
            given = "null" if settings is None else describe(settings)
            raise UserError(
                f"--{group} {given}: this is a group of settings; give one of them, such as --{group}.{example}, or a "
                "YAML file"
            )
        known = arguments(self.groups[group])
        for name, value in settings.items():
            if name not in known:
                raise self.no_such_option(f"{group}.{name}")
            _check_argument((group, name), value, known[name])


def _check_argument(place: tuple[str, ...], value: object, parameter: inspect.Parameter) -> None:
    """Check the value of an argument; of its type only whether it may be null, which the parser takes for not given."""
    annotation = parameter.annotation
    is_optional = annotation in (inspect.Parameter.empty, Any) or NoneType in get_args(annotation)
    if value is None and not is_optional and parameter.default is not None and place[-1] not in BASES:
        raise UserError(f"{_flag(place)} null: expected {describe_type(annotation)}")
    _check_value(place, value)


def _check_value(place: tuple[str, ...], value: object) -> None:
    """Check a value that may name a class, or hold values that do."""
    if isinstance(value, str) and not value.isprintable():
        raise UserError(f"{_flag(place)} {describe(value)}: text must be printable; give other text")
    if value == "" and place[-1] in FOLDERS:
        raise UserError(f"{_flag(place)} '': this is a folder; name it, or give . for the current one")
    if isinstance(value, list):
        for item in value:
            _check_value(place, item)
    elif place[-1] in BASES and (isinstance(value, str) or is_class(value)):
        _check_class(place, value)
    elif place[-1] in _ONLY_CLASSES and value is not None and not isinstance(value, Mapping):
        raise UserError(f"{_flag(place)} {describe(value)}: {_no_such_class(place[-1], '')}")
    elif isinstance(value, Mapping):
        if place[-1] in BASES:
            setting = next(iter(value.get("init_args", value)), "")
            raise UserError(
                f"{_flag(place)}.{setting}: {_flag(place)} has no class yet; choose one first with "
                f"{_flag(place)} CLASS{_suggest_class(place[-1])}"
            )
        for name, item in value.items():
            _check_value((*place, str(name)), item)


def _check_class(place: tuple[str, ...], value: Any) -> None:
    if unknown := [] if isinstance(value, str) else [key for key in value if key not in CLASS_KEYS]:
        raise UserError(
            f"{_flag(place)}: {describe(unknown[0])} beside class_path (choose from {', '.join(CLASS_KEYS)})"
            + did_you_mean(str(unknown[0]), CLASS_KEYS)
        )
    if isinstance(value, str) and not names_class(place, value):
        return
    cls = find_class(place, value if isinstance(value, str) else value["class_path"])
    known = arguments(cls)
    given = {} if isinstance(value, str) else value.get("init_args") or {}
    for argument, item in given.items():
        if argument not in known:
            raise UserError(
                f"{_flag(place)}.{argument} {describe(item)}: {cls.__name__} has no setting {argument!r}"
                + _suggest(argument, sorted(known))
            )
        _check_argument((*place, argument), item, known[argument])
    if needed := [name for name in _required(cls) if name not in given]:
        raise UserError(f"{_flag(place)}: {cls.__name__} needs {', '.join(needed)}; give {_flag(place)}.{needed[0]}")


def is_class(value: object) -> bool:
    """Whether a value in a tree names a class with its arguments."""
    return isinstance(value, Mapping) and "class_path" in value


def names_class(place: tuple[str, ...], value: object) -> bool:
    """Whether a value in a tree is the name of a class, and not a name that the Trainer knows, such as `ddp`."""
    if not isinstance(value, str) or not place or place[-1] not in BASES:
        return False
    known = _NAMES[place[-1]]() if place[-1] in _NAMES else ()
    return value not in known and (place[-1] == "accelerator" or value.lower() not in known)  # as Lightning compares


def find_class(place: tuple[str, ...], name: str) -> type[Any]:
    """Return the class that a user has named for a setting; its module is imported.

    Args:
        place: The names that lead to the setting, for example `("model", "optimizer")`.
        name: The name of the class, with or without its module.

    Raises:
        UserError: If there is no such class, or it is not of the kind that the setting takes.
    """
    bases = BASES[place[-1]]
    module, _, short = name.rpartition(".")
    if module and not name.startswith("."):
        try:
            found = getattr(import_module(module), short, None)
        except ModuleNotFoundError as error:
            raise UserError(
                f"{_flag(place)} {name}: there is no module {error.name!r} on Python's path; "
                "`python -m lightning_cnn` finds modules in the current folder"
            ) from error
        except (ImportError, ValueError):
            found = None
        if isinstance(found, type) and issubclass(found, bases):
            return found
    elif found := [cls for cls in _subclasses(bases) if cls.__name__ == name]:
        if len(found) == 1:
            return found[0]
        paths = [f"{cls.__module__}.{cls.__name__}" for cls in found]
        chosen = [path for path in paths if path.startswith("lightning.")] or paths  # Lightning's knows its monitor
        raise UserError(f"{_flag(place)} {name}: several classes have this name; give {' or '.join(chosen)}")
    raise UserError(f"{_flag(place)} {name}: {_no_such_class(place[-1], short)}")


def arguments(cls: type[Any]) -> dict[str, inspect.Parameter]:
    """Return the arguments of a class that a user can give, those that it passes on included."""
    found: dict[str, inspect.Parameter] = {}
    passes_on = False
    for owner in cls.__mro__[:-1]:
        if "__init__" not in vars(owner):
            continue
        own = list(inspect.signature(vars(owner)["__init__"]).parameters.values())[1:]
        found = {p.name: p for p in own if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)} | found
        if not any(p.kind is p.VAR_KEYWORD for p in own):
            break
        passes_on = True
    if passes_on and cls.__module__.partition(".")[0] != "lightning_cnn":  # ours pass arguments on to a base only
        found = {**_resolved(cls), **found}  # type: ignore[arg-type]  # mypy 2.4 takes no class for hashable
    for base, injected in _INJECTED.items():
        if issubclass(cls, base):
            found.pop(injected, None)
    return found


def _required(cls: type[Any]) -> list[str]:
    """Return the arguments that must be given; those of a base class may be given by the class itself."""
    own = inspect.signature(cls).parameters
    return [name for name, parameter in arguments(cls).items() if name in own and parameter.default is parameter.empty]


@cache
def _resolved(cls: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the arguments of a class that passes some on to whatever code: the parser reads its source."""
    parser = ArgumentParser()
    names = parser.add_class_arguments(cast(type[Any], cls))
    defaults = parser.get_defaults()
    return {n: inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=defaults[n]) for n in names}


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
        >>> describe_type(int | float | None)
        'int or float'
    """
    if get_origin(annotation) in (Union, UnionType):
        allowed = kinds(annotation)
        if all(get_origin(kind) is Literal for kind in allowed):
            return describe_type(Literal[tuple(value for kind in allowed for value in get_args(kind))])
        return " or ".join(dict.fromkeys(map(describe_type, allowed)))
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(map(repr, get_args(annotation)))}"
    if get_origin(annotation) is not None:
        return describe_type(get_origin(annotation))
    return getattr(annotation, "__name__", str(annotation))


def _flag(place: tuple[str, ...]) -> str:
    return f"--{'.'.join(place)}"


def _no_such_class(setting: str, name: str) -> str:
    kind = setting.removesuffix("s") + ("" if setting in _NAMES else " class")
    return f"there is no such {kind}{_suggest_class(setting, name)}"


def _suggest_class(setting: str, name: str = "") -> str:
    known = {cls.__name__ for cls in _subclasses(BASES[setting])}
    known |= {*_NAMES.get(setting, set)()}
    return _suggest(name, sorted((name for name in known if not name.startswith("_")), key=str.swapcase))


def _suggest(name: str, known: list[str]) -> str:
    choice = textwrap.shorten(", ".join(known), 600, placeholder=" …")
    return did_you_mean(name, known) or (f" (choose from {choice})" if known else "")


def _subclasses(bases: tuple[type[Any], ...]) -> Iterator[type[Any]]:
    for base in bases:
        for child in base.__subclasses__():
            yield child
            yield from _subclasses((child,))
