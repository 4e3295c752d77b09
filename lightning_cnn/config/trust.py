"""Which settings in a checkpoint are trusted: plain values and known classes, but not where to write.

A checkpoint may be untrusted. The parser imports any class path, and may read a file or contact a host where it expects
a class; so settings from a checkpoint that would make it do so are refused before it sees them.
"""

import math
import os
import sys
from collections.abc import Collection, Mapping
from datetime import timedelta
from importlib.util import find_spec
from inspect import Parameter
from itertools import pairwise
from pathlib import Path
from shlex import quote
from types import FunctionType
from typing import Any, Literal, get_origin

import yaml
from lightning.pytorch import Trainer
from torch import nn

from lightning_cnn import callbacks  # noqa: F401  # classes are looked up among those that are imported
from lightning_cnn.classifiers.network import PRETRAINED
from lightning_cnn.config.class_settings import BASES, CLASS_KEYS, LINKED, arguments, is_class, kinds
from lightning_cnn.config.classes import is_class_path, is_of_known_package, trusted_class
from lightning_cnn.config.settings import texts
from lightning_cnn.config.yaml import MAX_BYTES, describe, dump, is_readable, load
from lightning_cnn.data import arrays, datamodules, image_folder, published  # noqa: F401
from lightning_cnn.errors import UserError

#: The settings of a run; nothing else is taken from a checkpoint.
SECTIONS = ("seed_everything", "trainer", "model", "data", "checkpoints", "distillation", "plots", "dashboard")
#: Settings of the trainer that say where to write: in a folder, or on a server.
_PLACES = ("default_root_dir", "model_registry")
#: Settings that are text, and may look like a name in a module or the name of a file.
_TEXTS = ("filename", "dirpath", "save_dir", "data_dir", "name", "monitor")
#: Types of which the parser takes text as it is, or as a number or a time.
_SCALARS = (str, Path, os.PathLike, int, float, bool, timedelta)
_BASES: dict[str, tuple[type[Any], ...]] = {
    **BASES,
    "metrics": BASES["model.metrics"],
    "transform": (nn.Module,),
}
_ALL_BASES = tuple(base for bases in BASES.values() for base in bases if base is not nn.Module)

_MAX_VALUES = 10_000
_MAX_DEPTH = 30
_MAX_LENGTH = 10_000
#: The largest numbers among the arguments of metrics and augmentations, which may allocate memory accordingly.
_MAX_NUMBERS = {"metrics": 100_000, "augment": 1_000}


def trusted_settings(config: object, named: Collection[str], config_file: Path | None = None) -> dict[str, Any]:
    """Return the settings in a checkpoint, as plain values, without those that say where to write.

    Nothing is imported but modules that the user has named.

    Args:
        config: The config in the checkpoint, of any type.
        named: All text that the user has given, in flags and configs. A class in `named`, other classes of its module,
            and a function, a path or an address in `named` are trusted.
        config_file: A file with the same settings, which messages may ask the user to give.

    Raises:
        UserError: If a value is not plain, or names a class that is not known, or a file.
    """
    if not isinstance(config, dict):
        raise UserError("the checkpoint does not say what it was trained with; give one that `fit` has written")
    settings = {key: value for key, value in config.items() if key != "ckpt_path"}
    for key in settings:
        if key not in SECTIONS:
            raise UserError(
                f"the checkpoint has the setting {describe(key)}, which is not a setting of a run; "
                "give another checkpoint"
            )
    trainer = settings.get("trainer")
    if isinstance(trainer, dict):
        settings["trainer"] = {key: value for key, value in trainer.items() if key not in _PLACES}
    plain: dict[str, Any] = _Copier(named, config_file).copy(settings, ())
    return plain


def is_trusted(settings: dict[str, Any], named: Collection[str]) -> bool:
    """Whether these settings would be accepted from a checkpoint, if the user gave nothing but `named`."""
    try:
        trusted_settings(settings, named)
    except UserError:
        return False
    return True


def require_recordable(settings: dict[str, Any]) -> None:
    """Refuse settings that a run could record, but that would not be accepted back.

    Raises:
        UserError: If there are some.
    """
    try:
        trusted_settings(settings, set(texts(settings)))
    except UserError as error:
        raise UserError(f"the run could not be resumed with these settings: {error}") from error
    if (size := len(dump(settings).encode())) > MAX_BYTES:
        raise UserError(
            f"the run could not be repeated with these settings: its config would have {size:,} bytes, more than "
            f"{MAX_BYTES:,}; give shorter ones"
        )


class _Copier:
    """Copies the values in a checkpoint that are trusted, and refuses all others."""

    def __init__(self, named: Collection[str], config_file: Path | None) -> None:
        self.named = named
        self.config_file = config_file
        self.left = _MAX_VALUES

    def copy(
        self,
        value: object,
        place: tuple[str, ...],
        argument: Parameter | None = None,
        owner: type[Any] | None = None,
    ) -> Any:
        """Return a copy of a value.

        Args:
            value: The value.
            place: The keys that lead to it.
            argument: The argument that takes it, if it is one of a class that is known.
            owner: The class, if it is known, whose arguments the keys of a mapping are.
        """
        self.left -= 1
        if self.left < 0 or len(place) > _MAX_DEPTH:
            raise UserError("the checkpoint has too many settings, or too deeply nested ones; give another checkpoint")
        if _setting(place) == "class_path" and not isinstance(value, str):
            raise UserError(f"the checkpoint has no class name for {_flag(place)}; give another checkpoint")
        if isinstance(value, dict):
            return self._copy_mapping(value, place, argument, owner)
        if place and place[-1] in ("init_args", "dict_kwargs"):
            raise UserError(f"the checkpoint has no arguments for {_flag(place)}; give another checkpoint")
        if isinstance(value, list | tuple):
            return [self.copy(item, (*place, "")) for item in value]
        if isinstance(value, str):
            self._require_harmless(value, place, argument)
        elif not (
            isinstance(value, bool | None)
            or (isinstance(value, int) and abs(value) < 2**63)
            or (isinstance(value, float) and math.isfinite(value))
        ):
            raise UserError(
                f"the checkpoint has {describe(value)} for {_flag(place)}, which is not a plain value; "
                "give another checkpoint"
            )
        elif isinstance(value, int | float) and abs(value) > (most := _largest(place)):
            raise UserError(
                f"the checkpoint has {value:,} for {_flag(place)}, more than {most:,}; give another checkpoint"
            )
        return value

    def _copy_mapping(
        self, value: dict[Any, Any], place: tuple[str, ...], argument: Parameter | None, owner: type[Any] | None
    ) -> dict[Any, Any]:
        if argument is not None and _is_mapping(argument) and not is_class(value):
            return {_require_data_key(key, place): self.copy(item, (*place, "")) for key, item in value.items()}
        known = {} if owner is None else arguments(owner)
        owners = {} if place else {"trainer": Trainer}
        if place[-2:] == ("network", "init_args"):
            value = {key: item for key, item in value.items() if key not in PRETRAINED or str(item) in self.named}
        if place == ("model", "init_args"):
            value = {key: item for key, item in value.items() if key not in LINKED}
            if isinstance(file := value.get("weights"), str) and file not in self.named:
                del value["weights"]
        if is_class(value) and (cls := self._class(value["class_path"], place)) is not None:
            owners = {"init_args": cls}
        return {
            _require_key(key, place): self.copy(item, (*place, key), known.get(key), owners.get(key))
            for key, item in value.items()
        }

    def _class(self, path: object, place: tuple[str, ...]) -> type[Any] | None:
        """Return the class with this path for a setting, if it is trusted."""
        owner = next(iter(reversed(_names(place))), "")
        if not isinstance(path, str):
            return None
        return trusted_class(path, _BASES.get(owner, _ALL_BASES), self.named, builders=owner == "network")

    def _require_harmless(self, text: str, place: tuple[str, ...], argument: Parameter | None) -> None:
        """Refuse text that the parser would not take as text, unless it names something known or named by the user."""
        if len(text) > _MAX_LENGTH or not text.isprintable():
            raise UserError(
                f"the checkpoint has {describe(text)} for {_flag(place)}, which is not plain text of at most "
                f"{_MAX_LENGTH:,} characters; give another checkpoint"
            )
        setting = _setting(place)
        if setting == "class_path":
            self._require_class(text, place)
        elif text in self.named or (argument is not None and text == _text(argument.default)):
            return
        is_text = setting in _TEXTS or (argument is not None and _is_text(argument))
        if not is_text and _can_be_imported(text):
            self._require_class(text, place)
        elif "://" in text or setting == "teachers" or (not is_text and _is_more_than_text(text)):
            raise UserError(
                f"the checkpoint has {describe(text)} for {_flag(place)}; files, addresses and YAML text that a "
                f"checkpoint names are not read; if you trust it, {self._way_out(text, place)}"
            )
        if place[0] == "trainer" and _leads_out(text):
            raise UserError(
                f"the checkpoint has the path {describe(text)} for {_flag(place)}, which may be outside the current "
                f"folder; if you trust it, {self._way_out(text, place)}"
            )

    def _require_class(self, path: str, place: tuple[str, ...]) -> None:
        if self._class(path, place) is not None:
            return
        way_out = self._way_out(path if is_class_path(path) else "CLASS", place)
        if not is_of_known_package(path):
            raise UserError(
                f"the checkpoint names the class {describe(path)}, which is not one of lightning-cnn, PyTorch or "
                f"Lightning, so it is not imported; if it is yours, {way_out}"
            )
        if _setting(place) == "class_path":
            way_out = "give another checkpoint"
        raise UserError(
            f"the checkpoint names {describe(path)} for {_flag(place)}, which takes no such class; {way_out}"
        )

    def _way_out(self, text: str, place: tuple[str, ...]) -> str:
        """Return how the user gives this value himself: with its flag or, where that changes more, in a config."""
        classes = [name for name, key in pairwise(place) if key in CLASS_KEYS]
        if "" not in place and all(name in BASES for name in classes):
            return f"add {_flag(place)} {quote(text)}"
        file = "FILE, with a file that has it" if self.config_file is None else quote(str(self.config_file))
        return f"add --config {file}"


def _require_key(key: object, place: tuple[str, ...]) -> str:
    if not isinstance(key, str) or not key.isidentifier() or key.startswith("__"):  # a dot would name another setting
        raise UserError(
            f"the checkpoint has {describe(key)} below {_flag(place)}, which is not the name of a setting; "
            "give another checkpoint"
        )
    return key


def _require_data_key(key: object, place: tuple[str, ...]) -> str | int:
    """Return a key of a mapping that is itself the value of a setting; the parser does not interpret it."""
    if isinstance(key, str) and 0 < len(key) <= 200 and key.isprintable() and not key.startswith("__"):
        return key
    if type(key) is int and abs(key) < 2**63:
        return key
    raise UserError(
        f"the checkpoint has the key {describe(key)} below {_flag(place)}, which is neither a whole number nor short "
        "text; give another checkpoint"
    )


def _largest(place: tuple[str, ...]) -> float:
    """The largest number that is trusted at a place."""
    return min((most for name, most in _MAX_NUMBERS.items() if name in place[1:]), default=math.inf)


def _setting(place: tuple[str, ...]) -> str:
    """The last key: an item of a list, or of a mapping that is a value itself, is at the place of the whole."""
    return next((key for key in reversed(place) if key), "")


def _names(place: tuple[str, ...]) -> list[str]:
    return [key for key in place if key and key not in CLASS_KEYS]


def _flag(place: tuple[str, ...]) -> str:
    return f"--{'.'.join(_names(place))[:200]}"


def _text(default: object) -> object:
    """The default of an argument as configs have it: a function by its name."""
    return f"{default.__module__}.{default.__qualname__}" if isinstance(default, FunctionType) else default


def _is_text(argument: Parameter) -> bool:
    """Whether an argument takes text, numbers and paths only, so that the parser looks for neither class nor file."""
    return all(kind in _SCALARS or get_origin(kind) is Literal for kind in kinds(argument.annotation))


def _is_mapping(argument: Parameter) -> bool:
    """Whether an argument takes a mapping whose keys are data, and nothing that the parser makes a class of."""
    allowed = [get_origin(kind) or kind for kind in kinds(argument.annotation)]
    return not {dict, Mapping}.isdisjoint(allowed) and {*allowed} <= {dict, Mapping, *_SCALARS}


def _can_be_imported(text: str) -> bool:
    """Whether something could be imported by this name, found out without importing it."""
    top = text.partition(".")[0]
    return is_class_path(text) and (top in sys.modules or find_spec(top) is not None)


def _is_more_than_text(text: str) -> bool:
    """Whether the parser would read a file, contact a host, or parse a list or a mapping."""
    if "::" in text or is_readable(Path(text)):
        return True
    try:
        return isinstance(load(text), dict | list)
    except yaml.YAMLError:
        return False


def _leads_out(text: str) -> bool:
    """Whether a path leads out of the folder that the command runs in."""
    path = Path(text)
    return path.is_absolute() or ".." in path.parts or text.startswith("~")
