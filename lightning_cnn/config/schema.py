"""What can be set: the settings of a command.

A tree of settings is checked against it before the parser sees it, so that the messages about unknown names and classes
are ours and name the setting as a flag. Types of values are left to the parser.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args

from lightning_cnn.config.class_settings import (
    BASES,
    CLASS_KEYS,
    LINKED,
    ONLY_CLASSES,
    arguments,
    describe_type,
    find_class,
    flag_of,
    is_class,
    kind_of,
    names_class,
    no_such_class,
    required,
    suggest,
    suggest_class,
    takes_any,
)
from lightning_cnn.config.yaml import describe
from lightning_cnn.errors import UserError, did_you_mean

#: Settings that are folders, of this machine in any case …
LOCAL_FOLDERS = ("data_dir", "root", "default_root_dir")
#: … or also, for Lightning's own classes, elsewhere.
FOLDERS = (*LOCAL_FOLDERS, "dirpath", "save_dir")
#: What other programs, and calls in Python, call some settings.
ELSEWHERE = {
    "lr": "model.optimizer.lr",
    "learning_rate": "model.optimizer.lr",
    "optimizer": "model.optimizer",
    "lr_scheduler": "model.scheduler",
    "scheduler": "model.scheduler",
    "epochs": "trainer.max_epochs",
    **{name: f"data.{name}" for name in ("batch_size", "root", "image_size", "labels", "data_dir", "augment")},
    **{name: f"model.{name}" for name in ("network", "loss", "metrics", "class_weights")},
    "seed": "seed_everything",
}


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
        return [*(f"--{name}" for name in (*self.names, "config", "help", "help_all", "print_config")), *below]

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
                f"{' and '.join(missing)} not given; use --config with a file or a name such as "
                "mnist/cnn, or --model and --data with class names"
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
        ours = f"--{ELSEWHERE.get(first)}{dot}{rest}"
        meant = f"; did you mean {ours!r}?" if first in ELSEWHERE else did_you_mean(f"--{name}", known)
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
    if value is None and not is_optional and parameter.default is not None and kind_of(place) not in BASES:
        raise UserError(f"{flag_of(place)} null: expected {describe_type(annotation)}")
    _check_value(place, value)


def _check_value(place: tuple[str, ...], value: object, is_last: bool = True) -> None:
    """Check a value that may name a class, or hold values that do; a flag sets an argument of the last of a list."""
    kind = kind_of(place)
    if isinstance(value, str) and not value.isprintable():
        raise UserError(f"{flag_of(place)} {describe(value)}: text must be printable; give other text")
    if value == "" and place[-1] in FOLDERS:
        raise UserError(f"{flag_of(place)} '': this is a folder; name it, or give . for the current one")
    if isinstance(value, list):
        for item in value[:-1]:
            _check_value(place, item, is_last=False)
        for item in value[-1:]:
            _check_value(place, item)
    elif kind in BASES and (isinstance(value, str) or is_class(value)):
        _check_class(place, value, is_last)
    elif kind in ONLY_CLASSES and value is not None and not isinstance(value, Mapping):
        raise UserError(f"{flag_of(place)} {describe(value)}: {no_such_class(kind, '')}")
    elif isinstance(value, Mapping):
        if kind in BASES:
            setting = next(iter(value.get("init_args", value)), "")
            raise UserError(
                f"{flag_of(place)}.{setting}: {flag_of(place)} has no class yet; choose one first with "
                f"{flag_of(place)} CLASS{suggest_class(kind)}"
            )
        for name, item in value.items():
            _check_value((*place, str(name)), item)


def _check_class(place: tuple[str, ...], value: Any, is_last: bool) -> None:
    if unknown := [] if isinstance(value, str) else [key for key in value if key not in CLASS_KEYS]:
        raise UserError(
            f"{flag_of(place)}: {describe(unknown[0])} beside class_path (choose from {', '.join(CLASS_KEYS)})"
            + did_you_mean(str(unknown[0]), CLASS_KEYS)
        )
    if isinstance(value, str) and not names_class(place, value):
        return
    cls = find_class(place, value if isinstance(value, str) else value["class_path"])
    known = arguments(cls)
    given = {} if isinstance(value, str) else value.get("init_args") or {}
    for argument, item in given.items():
        if argument in LINKED and place == ("model",):
            raise UserError(f"{flag_of(place)}.{argument} {describe(item)}: it follows from the data; leave it out")
        if argument not in known and takes_any(cls):
            continue
        if argument == "network" and argument not in known:
            given_class = item.get("class_path", "") if isinstance(item, Mapping) else item
            raise UserError(
                f"{flag_of(place)}.network {describe(given_class)}: {cls.__name__} has its own network; "
                "add --model ImageClassifier"
            )
        if argument not in known:
            raise UserError(
                f"{flag_of(place)}.{argument} {describe(item)}: {cls.__name__} has no setting {argument!r}"
                + suggest(argument, sorted(known))
            )
        _check_argument((*place, argument), item, known[argument])
    if needed := [name for name in required(cls) if name not in given]:
        flag = flag_of(place)
        in_list = f"{{class_path: {cls.__name__}, init_args: {{{needed[0]}: …}}}} in its place"
        way_out = f"{flag}.{needed[0]}" if is_last else in_list
        raise UserError(f"{flag}: {cls.__name__} needs {', '.join(needed)}; give {way_out}")
