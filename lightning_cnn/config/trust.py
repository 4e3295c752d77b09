"""What is believed of the settings in a checkpoint: plain values and known classes, but not where to write.

The parser imports whatever a class path names, reads whatever file stands where a class is expected, and asks hosts for
it. A checkpoint may come from anywhere; so its settings get to the parser only as far as nothing of this can happen.
"""

import math
import sys
from collections.abc import Collection
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from lightning.pytorch.strategies import Strategy

from lightning_cnn import callbacks  # noqa: F401  # classes are looked up among those that are imported
from lightning_cnn.config import messages
from lightning_cnn.config import yaml as configs
from lightning_cnn.data import datamodules  # noqa: F401
from lightning_cnn.errors import UserError

#: The settings of a run; of what else a checkpoint may hold, nothing is taken.
SECTIONS = ("seed_everything", "trainer", "model", "data", "checkpoints", "plots", "dashboard")
#: Settings of the trainer that say where to write: in this folder, or on a server.
_PLACES = ("default_root_dir", "model_registry")

#: Packages with classes that a checkpoint may name, and those that their classes may be defined in.
_PACKAGES = ("lightning_cnn", "torch.optim", "lightning.pytorch")
_HOMES = (*_PACKAGES, "lightning.fabric")
#: The base of the classes that each setting takes; settings of classes may take any of these.
BASES: dict[str, type | tuple[type, ...]] = {
    **messages.BASES,
    "logger": Logger,
    "profiler": Profiler,
    "strategy": Strategy,
    "accelerator": Accelerator,
    "plugins": (CheckpointIO, ClusterEnvironment, LayerSync, Precision),
}
#: Settings that are text for sure, and may well look like a name in a module or be that of a file.
_TEXTS = ("filename", "dirpath", "save_dir", "data_dir", "name", "monitor")

_MAX_VALUES = 10_000
_MAX_DEPTH = 30
_MAX_LENGTH = 10_000


def believed(config: object, named: Collection[str]) -> dict[str, Any]:
    """Return the settings in a checkpoint, as plain values of their own, without those that say where to write.

    Nothing is imported but modules that the user has named.

    Args:
        config: What the checkpoint holds, of whatever types.
        named: All words that the user has given, in flags and configs. A class in `named`, and others of its module,
            are believed, and so is a path in `named`.

    Raises:
        UserError: If anything in it is not plain, or names a class that is not known, or a file.
    """
    if not isinstance(config, dict):
        raise UserError("the checkpoint does not say what it was trained with; give one that `fit` has written")
    settings = {key: value for key, value in config.items() if key != "ckpt_path"}
    for key in settings:
        if key not in SECTIONS:
            raise UserError(
                f"the checkpoint has a setting {configs.describe(key)}, which is none of a run; give another checkpoint"
            )
    trainer = settings.get("trainer")
    if isinstance(trainer, dict):
        settings["trainer"] = {key: value for key, value in trainer.items() if key not in _PLACES}
    plain: dict[str, Any] = _Reader(named).read(settings, ())
    return plain


def is_dotted(word: str) -> bool:
    """Whether a word has the form of a name in a module, as in `torch.optim.Adam`."""
    parts = word.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


class _Reader:
    """Copies the values in a checkpoint that are believed, and refuses all others."""

    def __init__(self, named: Collection[str]) -> None:
        self.named = named
        self.modules = {word.rpartition(".")[0] for word in named if is_dotted(word)}
        self.left = _MAX_VALUES

    def read(self, value: object, place: tuple[str, ...]) -> Any:
        """Return a value, where `place` are the keys that lead to it."""
        self.left -= 1
        if self.left < 0 or len(place) > _MAX_DEPTH:
            raise UserError(
                "the settings in the checkpoint are too many, or nested too deeply; give another checkpoint"
            )
        if _setting(place) == "class_path" and not isinstance(value, str):
            raise UserError(f"the checkpoint has no name of a class for {_flag(place)}; give another checkpoint")
        if isinstance(value, dict):
            return {_key(key, place): self.read(item, (*place, key)) for key, item in value.items()}
        if place and place[-1] in ("init_args", "dict_kwargs"):
            raise UserError(f"the checkpoint has no settings for {_flag(place)}; give another checkpoint")
        if isinstance(value, list | tuple):
            return [self.read(item, (*place, "")) for item in value]
        if isinstance(value, str):
            self.require_harmless(value, place)
            return value
        if isinstance(value, bool | None) or (isinstance(value, int) and abs(value) < 2**63):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        raise UserError(
            f"the checkpoint has no plain value for {_flag(place)}, but {configs.describe(value)}; give another"
        )

    def require_harmless(self, text: str, place: tuple[str, ...]) -> None:
        """Refuse text of which the parser would make more than text, unless that is known or named by the user."""
        if len(text) > _MAX_LENGTH:
            raise UserError(f"the checkpoint has {len(text):,} characters for {_flag(place)}; give another checkpoint")
        if not text.isprintable():
            raise UserError(f"the checkpoint has {configs.describe(text)} for {_flag(place)}, which is no plain text")
        if _setting(place) == "class_path":
            self.require_class(text, place)
        elif _setting(place) not in _TEXTS:
            if _names_a_module(text):
                self.require_class(text, place)
            elif _is_more_than_text(text):
                raise UserError(
                    f"the checkpoint has {configs.describe(text)} for {_flag(place)}, which is not read because a "
                    f"checkpoint says so; if you trust it, give it yourself, in a config"
                )
        if place[0] == "trainer" and _leads_out(text) and text not in self.named:
            raise UserError(
                f"the checkpoint has the path {configs.describe(text)} for {_flag(place)}; if it is right, "
                f"give it yourself: {_flag(place)} PATH"
            )

    def require_class(self, path: str, place: tuple[str, ...]) -> None:
        """Refuse what is no known class of the right kind, nor one of a module that the user has named."""
        module, _, name = path.rpartition(".")
        owner = _owner(place)
        if is_dotted(path) and module in self.modules:
            found = getattr(_import_named(module), name, None)
            if isinstance(found, type) and _within(str(found.__module__), (module.partition(".")[0],)):
                return
        elif _within(module, _PACKAGES) and not any(part.startswith("__") for part in path.split(".")):
            found = getattr(sys.modules.get(module), name, None)
            if isinstance(found, type) and _within(str(found.__module__), _HOMES) and issubclass(found, _base(owner)):
                return
            raise UserError(
                f"the checkpoint names {configs.describe(path)} for {_flag(place)}, which is no class that this takes; "
                "give another checkpoint"
            )
        raise UserError(
            f"the checkpoint names the class {configs.describe(path)}, which is not one of lightning-cnn, PyTorch or "
            f"Lightning, and no class is imported because a checkpoint names it; if it is yours, add "
            f"{_flag(place)} {path if is_dotted(path) else 'CLASS'}"
        )


def _key(key: object, place: tuple[str, ...]) -> str:
    if not isinstance(key, str) or not key.isidentifier() or key.startswith("__"):  # dots would lead elsewhere
        raise UserError(
            f"the checkpoint has {configs.describe(key)} as a name below {_flag(place)}; give another checkpoint"
        )
    return key


def _setting(place: tuple[str, ...]) -> str:
    """The last key: an item of a list is at the place of the list."""
    return next((key for key in reversed(place) if key), "")


def _own_keys(place: tuple[str, ...]) -> list[str]:
    return [key for key in place if key and key not in ("class_path", "init_args", "dict_kwargs")]


def _owner(place: tuple[str, ...]) -> str:
    """The setting that takes the class at this place."""
    return next(iter(reversed(_own_keys(place))), "")


def _flag(place: tuple[str, ...]) -> str:
    return f"--{'.'.join(_own_keys(place))[:200]}"


def _base(owner: str) -> tuple[type, ...]:
    bases = [BASES[owner]] if owner in BASES else BASES.values()
    return tuple(cls for base in bases for cls in (base if isinstance(base, tuple) else (base,)))


def _within(module: str, packages: Collection[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _names_a_module(text: str) -> bool:
    """Whether something could be imported by this name; nothing is, to find out."""
    top = text.partition(".")[0]
    return is_dotted(text) and (top in sys.modules or find_spec(top) is not None)


def _is_more_than_text(text: str) -> bool:
    """Whether the parser would read a file, ask a host or make lists or settings of a text."""
    if "://" in text or "::" in text or configs.is_readable(Path(text)):
        return True
    try:
        return isinstance(configs.load(text), dict | list)
    except yaml.YAMLError:
        return False


def _leads_out(text: str) -> bool:
    """Whether a path leads out of the folder that the command runs in."""
    path = Path(text)
    return path.is_absolute() or ".." in path.parts or text.startswith("~")


def _import_named(module: str) -> object:
    """A module that the user has named; None if there is none, which the parser says of the user's own words."""
    try:
        return import_module(module)
    except ImportError:
        return None
