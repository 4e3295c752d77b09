"""The parser: jsonargparse's, with strict YAML and one-line errors that name the setting and what is expected.

Unknown names and classes are found before the parser sees them (`schema`); what is left are types. Of the parser's
report only the names of the setting are read, and its value where several callbacks have this setting: the value is
looked up in the tree, the type in the class.
"""

import json
import operator
import re
import warnings
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import partial
from inspect import Parameter
from numbers import Number
from pathlib import Path
from types import NoneType
from typing import Any, NoReturn, cast

import torch
import yaml
from jsonargparse import Namespace, add_instantiator, set_dumper, set_loader, set_parsing_settings
from jsonargparse.typing import register_type
from lightning.pytorch.cli import LightningArgumentParser

from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.config.class_settings import BASES, CLASS_KEYS, describe_type, find_class, is_class
from lightning_cnn.config.schema import FOLDERS, Schema
from lightning_cnn.config.yaml import describe, load
from lightning_cnn.errors import UserError
from lightning_cnn.text import in_one_line

#: How jsonargparse 4.53 names a setting, at every level at which it is nested.
_KEY = re.compile(r'Parser key "([^"]+)"')
_PLAIN = (str, int, float, bool, NoneType)

#: The mode of our parser; parsers of others in this process keep theirs.
STRICT = "strict yaml"
# Configs are local files. An empty list enforces jsonargparse's own denylist, of what runs commands or opens files.
set_parsing_settings(config_read_mode_fsspec_enabled=False, import_path_denylist=[])
set_loader(STRICT, load, (yaml.YAMLError,))
set_dumper("plain", lambda settings: settings)
# Some of Lightning's callbacks have devices among their arguments, some defaults are enumerations; configs have names.
register_type(torch.device, str, torch.device)
# Some of torchvision's transforms take a `Number`, which jsonargparse reads but cannot write. `pos` takes numbers only.
register_type(Number, operator.pos, operator.pos, type_check=isinstance)
# Weights of a loss, for example.
register_type(torch.Tensor, torch.Tensor.tolist, lambda values: torch.as_tensor(values, dtype=torch.float32))
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))


class ConstructorError(BaseException):
    """A class for the trainer has refused its arguments; the cause says why.

    It is no `Exception`, because jsonargparse would take one as the sign that another type of a union is meant, and
    report only that the class is not of the first of them.

    Args:
        class_type: The class.
    """

    def __init__(self, class_type: type) -> None:
        super().__init__(class_type.__name__)


def _construct(class_type: type, *args: Any, **kwargs: Any) -> Any:
    try:
        return class_type(*args, **kwargs)
    except Exception as error:
        raise ConstructorError(class_type) from error


for kind in ("callbacks", "logger", "profiler", "strategy", "accelerator", "plugins"):
    for base in BASES[kind]:
        add_instantiator(_construct, base)


def _construct_classifier(class_type: type, *args: Any, **kwargs: Any) -> Any:
    """Build a classifier; it gets its network as a class or a function, because names are for settings only."""
    network: Any = kwargs.get("network")
    if is_class(network):
        builder: Any = find_class(("model", "network"), network["class_path"])
        kwargs["network"] = partial(builder, **(network.get("init_args") or {}))
    return class_type(*args, **kwargs)


add_instantiator(_construct_classifier, ImageClassifier)


class SettingsParser(LightningArgumentParser):
    """Raises `UserError` instead of printing the usage and exiting."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the report unchanged; the caller passes it to `explain`."""
        if not self.exit_on_error:  # a parser inside another
            super().error(message, ex)
        raise UserError(message) from ex


def plain_settings(parser: LightningArgumentParser, config: Namespace) -> dict[str, Any]:
    """Return parsed settings as plain values, from which the parser gets the same settings again.

    Raises:
        UserError: If there are none for a setting.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Unable to serialize")  # `_plain` reads the value itself, or refuses it
        # Parsed settings are valid: to validate them again would take a sixth of the time of parsing.
        dumped = cast(dict[str, Any], parser.dump(config, format="plain", skip_unset=False, skip_validation=True))
    parsed = config.as_dict()
    return {name: _plain(value, parsed[name], (name,)) for name, value in dumped.items()}


def _plain(dumped: Any, parsed: Any, place: tuple[str, ...]) -> Any:
    """Return the plain form of a value.

    Args:
        dumped: What jsonargparse 4.53 makes of it. Where text or a function is allowed as well, that is wrong text.
        parsed: The value.
        place: The names that lead to it.
    """
    if isinstance(parsed, dict):
        forms = dumped if isinstance(dumped, dict) and dumped.keys() <= parsed.keys() else parsed
        return {key: _plain(form, parsed[key], (*place, str(key))) for key, form in forms.items()}
    if isinstance(parsed, list | tuple):
        items = dumped if isinstance(dumped, list) else parsed
        return [_plain(*pair, place) for pair in zip(items, parsed, strict=True)]
    if isinstance(parsed, set | frozenset):  # sorted, because the order of classes differs between processes
        return sorted((_plain(*pair, place) for pair in zip(dumped, parsed, strict=True)), key=str)
    if isinstance(parsed, torch.Tensor):
        return parsed.tolist()
    if isinstance(parsed, str) and place[-1] in FOLDERS and "://" not in parsed:
        return str(Path(parsed))  # a default as well, as it is read from a config
    if type(parsed) in _PLAIN:
        return parsed
    if type(dumped) not in _PLAIN or str(dumped).startswith("Unable to serialize"):
        flag = ".".join(name for name in place if name not in CLASS_KEYS)
        raise UserError(
            f"--{flag} {in_one_line(parsed)[:80]}: the run cannot record it, so it could not be resumed; give plain "
            "values, or a class or a function of a module"
        )
    return dumped


def explain(report: str, tree: Mapping[str, Any], schema: Schema) -> str:
    """Return what the parser reports of a tree of settings as one line."""
    names = list(dict.fromkeys(name for key in _KEY.findall(report) for name in key.split(".")))
    try:
        value, annotation = schema.find(tree, names, lambda value: f"Got value: {value}\n" in report)
    except (LookupError, ValueError):
        return in_one_line(report)
    flag = f"--{'.'.join(names)}"
    shown = value if isinstance(value, str) else json.dumps(value, default=describe)[:100]
    expected = "another type" if annotation in (None, Parameter.empty) else describe_type(annotation)
    return f"{flag}{f' {shown}' if value != '' else ''}: expected {expected}"


def refusal(error: BaseException, settings: Mapping[str, Any]) -> str:
    """Return why a constructor has refused its arguments, with the argument named as a flag, or the class.

    Args:
        error: `ConstructorError`, or what another constructor has raised.
        settings: All settings.
    """
    cause = error
    while cause.__cause__ is not None and not isinstance(cause, UserError):
        cause = cause.__cause__
    message = in_one_line(cause)
    name = message.partition(" ")[0]
    flags = set(_flags(name, settings, "--"))
    if len(flags) == 1:
        return f"{flags.pop()}{message.removeprefix(name)}"
    return f"{error}: {message}" if isinstance(error, ConstructorError) else message


def _flags(name: str, settings: Any, prefix: str) -> Iterator[str]:
    """Yield the flags of all settings with this name."""
    if isinstance(settings, list):
        for item in settings:
            yield from _flags(name, item, prefix)
    elif isinstance(settings, Mapping):
        for key, value in settings.items():
            if key == name:
                yield f"{prefix}{key}"
            yield from _flags(name, value, prefix if key in CLASS_KEYS else f"{prefix}{key}.")
