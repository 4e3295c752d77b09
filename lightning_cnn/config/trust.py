"""Which settings in a checkpoint are trusted: plain values and known classes, but not where to write.

A checkpoint may be untrusted. The parser imports any class path, and may read a file or contact a host where it expects
a class; so settings from a checkpoint that would make it do so are refused before it sees them.
"""

import math
import sys
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from lightning_cnn import callbacks  # noqa: F401  # classes are looked up among those that are imported
from lightning_cnn.config.classes import is_class_path, is_of_known_package, trusted_class
from lightning_cnn.config.schema import BASES, CLASS_KEYS
from lightning_cnn.config.yaml import describe, is_readable, load
from lightning_cnn.data import datamodules  # noqa: F401
from lightning_cnn.errors import UserError

#: The settings of a run; nothing else is taken from a checkpoint.
SECTIONS = ("seed_everything", "trainer", "model", "data", "checkpoints", "plots", "dashboard")
#: Settings of the trainer that say where to write: in a folder, or on a server.
_PLACES = ("default_root_dir", "model_registry")
#: Settings that are text, and may look like a name in a module or the name of a file.
_TEXTS = ("filename", "dirpath", "save_dir", "data_dir", "name", "monitor")
_ALL_BASES = tuple(base for bases in BASES.values() for base in bases)

_MAX_VALUES = 10_000
_MAX_DEPTH = 30
_MAX_LENGTH = 10_000


def trusted_settings(config: object, named: Collection[str]) -> dict[str, Any]:
    """Return the settings in a checkpoint, as plain values, without those that say where to write.

    Nothing is imported but modules that the user has named.

    Args:
        config: The config in the checkpoint, of any type.
        named: All text that the user has given, in flags and configs. A class in `named`, other classes of its module,
            and a path in `named` are trusted.

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
    plain: dict[str, Any] = _Copier(named).copy(settings, ())
    return plain


class _Copier:
    """Copies the values in a checkpoint that are trusted, and refuses all others."""

    def __init__(self, named: Collection[str]) -> None:
        self.named = named
        self.left = _MAX_VALUES

    def copy(self, value: object, place: tuple[str, ...]) -> Any:
        """Return a copy of a value; `place` are the keys that lead to it."""
        self.left -= 1
        if self.left < 0 or len(place) > _MAX_DEPTH:
            raise UserError("the checkpoint has too many settings, or too deeply nested ones; give another checkpoint")
        if _setting(place) == "class_path" and not isinstance(value, str):
            raise UserError(f"the checkpoint has no class name for {_flag(place)}; give another checkpoint")
        if isinstance(value, dict):
            return {_require_key(key, place): self.copy(item, (*place, key)) for key, item in value.items()}
        if place and place[-1] in ("init_args", "dict_kwargs"):
            raise UserError(f"the checkpoint has no arguments for {_flag(place)}; give another checkpoint")
        if isinstance(value, list | tuple):
            return [self.copy(item, (*place, "")) for item in value]
        if isinstance(value, str):
            self._require_harmless(value, place)
        elif not (
            isinstance(value, bool | None)
            or (isinstance(value, int) and abs(value) < 2**63)
            or (isinstance(value, float) and math.isfinite(value))
        ):
            raise UserError(
                f"the checkpoint has {describe(value)} for {_flag(place)}, which is not a plain value; "
                "give another checkpoint"
            )
        return value

    def _require_harmless(self, text: str, place: tuple[str, ...]) -> None:
        """Refuse text that the parser would not take as text, unless it names something known or named by the user."""
        if len(text) > _MAX_LENGTH or not text.isprintable():
            raise UserError(
                f"the checkpoint has {describe(text)} for {_flag(place)}, which is not plain text of at most "
                f"{_MAX_LENGTH:,} characters; give another checkpoint"
            )
        setting = _setting(place)
        if setting == "class_path" or (setting not in _TEXTS and _can_be_imported(text)):
            self._require_class(text, place)
        elif setting not in _TEXTS and _is_more_than_text(text):
            raise UserError(
                f"the checkpoint has {describe(text)} for {_flag(place)}; files, addresses and YAML text that a "
                "checkpoint names are not read; if you trust it, give it in a config"
            )
        if place[0] == "trainer" and _leads_out(text) and text not in self.named:
            raise UserError(
                f"the checkpoint has the path {describe(text)} for {_flag(place)}, which may be outside the current "
                f"folder; if you trust it, give it as {_flag(place)} PATH"
            )

    def _require_class(self, path: str, place: tuple[str, ...]) -> None:
        owner = next(iter(reversed(_names(place))), "")
        if trusted_class(path, BASES.get(owner, _ALL_BASES), self.named) is not None:
            return
        if is_of_known_package(path):
            raise UserError(
                f"the checkpoint names {describe(path)} for {_flag(place)}, which takes no such class; "
                "give another checkpoint"
            )
        raise UserError(
            f"the checkpoint names the class {describe(path)}, which is not one of lightning-cnn, PyTorch or "
            f"Lightning, so it is not imported; if it is yours, add "
            f"{_flag(place)} {path if is_class_path(path) else 'CLASS'}"
        )


def _require_key(key: object, place: tuple[str, ...]) -> str:
    if not isinstance(key, str) or not key.isidentifier() or key.startswith("__"):  # a dot would name another setting
        raise UserError(
            f"the checkpoint has {describe(key)} below {_flag(place)}, which is not the name of a setting; "
            "give another checkpoint"
        )
    return key


def _setting(place: tuple[str, ...]) -> str:
    """The last key: an item of a list is at the place of the list."""
    return next((key for key in reversed(place) if key), "")


def _names(place: tuple[str, ...]) -> list[str]:
    return [key for key in place if key and key not in CLASS_KEYS]


def _flag(place: tuple[str, ...]) -> str:
    return f"--{'.'.join(_names(place))[:200]}"


def _can_be_imported(text: str) -> bool:
    """Whether something could be imported by this name, found out without importing it."""
    top = text.partition(".")[0]
    return is_class_path(text) and (top in sys.modules or find_spec(top) is not None)


def _is_more_than_text(text: str) -> bool:
    """Whether the parser would read a file, contact a host, or parse a list or a mapping."""
    if "://" in text or "::" in text or is_readable(Path(text)):
        return True
    try:
        return isinstance(load(text), dict | list)
    except yaml.YAMLError:
        return False


def _leads_out(text: str) -> bool:
    """Whether a path leads out of the folder that the command runs in."""
    path = Path(text)
    return path.is_absolute() or ".." in path.parts or text.startswith("~")
