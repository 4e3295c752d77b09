"""Strict reading of configs: what is no sound YAML is told in one line, before anything is made of it."""

import math
import re
import stat
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import yaml
from jsonargparse import get_loader, set_loader

from lightning_cnn.errors import UserError

#: Size of the largest config file; those of this project have some hundred bytes.
MAX_BYTES = 1_000_000
#: How many values a config may hold, with every alias counted as all that it stands for.
MAX_VALUES = 100_000
#: How deep lists and settings may be nested.
MAX_DEPTH = 50

#: What the parser makes of sound text.
_load = get_loader("yaml")
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null")} | {"!"}
#: Whole numbers beyond 64 bits, as YAML writes them: decimal or by sixties, hexadecimal, binary.
_TOO_LARGE = re.compile(r"[-+]?([0-9][0-9_:]{19,}|0x[0-9a-fA-F_]{17,}|0b[01_]{65,})")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # quicker where it is
    """Leaves dates as text, like the parser."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class Unsound(yaml.YAMLError):
    """The text is YAML, but no sound config."""


@dataclass
class _Node:
    """A list or mapping, as far as it has been read."""

    mapping: bool
    anchor: str | None
    size: int = 1
    children: int = 0
    keys: set[str] = field(default_factory=set)

    @property
    def awaits_key(self) -> bool:
        return self.mapping and self.children % 2 == 0


def load(text: str) -> Any:
    """Return what YAML text says, if it is sound; the parser calls this for all its text, of files and flags alike.

    Anchors, aliases and merge keys may be used.

    Raises:
        yaml.YAMLError: If it is no YAML; or, as `Unsound`, if a key is given twice, if aliases stand for more than
            `MAX_VALUES` values, if it is nested deeper than `MAX_DEPTH`, if it has tags or several documents, or if a
            number is not finite or has more than 64 bits.
    """
    _require_sound(text)
    try:
        return _load(text)
    except ValueError as error:  # of words that YAML takes for numbers, but Python does not
        raise Unsound(f"it has a number that is none ({error})") from error
    except TypeError as error:  # the parser puts a colon behind the only setting, to see whether that was the text
        raise Unsound("it has a setting without a name") from error


set_loader("yaml", load, (yaml.YAMLError,))
# Some defaults of Lightning's classes are enumerations, of text; a config is written with the text.
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))


def read(path: Path) -> dict[str, Any]:
    """Return the settings in a config file.

    Raises:
        UserError: As `read_value`, or if it holds no settings by name.
    """
    return _settings(read_value(path), str(path))


def read_value(path: Path) -> Any:
    """Return what a YAML file says.

    Raises:
        UserError: If it is no file, larger than `MAX_BYTES`, not text in UTF-8, or no sound YAML.
    """
    return _value(_read_text(path), str(path))


def parse(text: str, name: str) -> dict[str, Any]:
    """Return the settings in a text.

    Raises:
        UserError: If it is no sound YAML, or holds no settings by name; `name` says of what.
    """
    return _settings(_value(text, name), name)


def _value(text: str, name: str) -> Any:
    try:
        load(text)
        return yaml.load(text, Loader=_Loader)  # the parser takes `trainer:` alone for text
    except Unsound as error:
        raise UserError(f"{name} is not a sound config: {error}") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).replace('in "<unicode string>", line', "in line").split())
        raise UserError(f"{name} is not valid YAML: {reason}") from error


def _settings(content: object, name: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise UserError(f"{name} is not a config: it must hold settings by name, such as trainer, got {shown(content)}")
    return content


def _read_text(path: Path) -> str:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, and a device may never end
            raise UserError(f"{path} is not a config: it is {_kind(status.st_mode)}; give a YAML file")
        if status.st_size > MAX_BYTES:
            raise UserError(f"{path} is not a config: it has {status.st_size:,} bytes, more than {MAX_BYTES:,}")
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a config: it is not text in UTF-8") from error
    except (OSError, ValueError) as error:  # a ValueError of names that no file can have
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        name = shown(str(path))
        raise UserError(
            f"config {name} cannot be read ({reason}); give a YAML file, such as those in configs"
        ) from error
    if "\0" in text:
        raise UserError(f"{path} is not a config: it has NUL bytes, so it is no text")
    return text


def is_readable(path: Path) -> bool:
    """Whether the parser would try to read something by this name: a file, or a pipe or device."""
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):  # there is none, or could be none: too long, say
        return False


def shown(value: object) -> str:
    """Return a value for a message: in one line, and not a long one."""
    text = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return text if len(text) <= 80 else f"{text[:77]}…"


def _kind(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"


def _require_sound(text: str) -> None:
    """Follow the reader through the text, without making anything of what it reads."""
    sizes: dict[str, int] = {}
    nodes = [_Node(mapping=False, anchor=None)]  # what all documents are in
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.DocumentStartEvent) and nodes[0].children:
            raise Unsound(f"it holds several documents{_where(event)}; leave one, without a line ---")
        if isinstance(event, yaml.CollectionStartEvent):
            _require_plain_tag(event)
            nodes.append(_Node(isinstance(event, yaml.MappingStartEvent), event.anchor))
            if len(nodes) > MAX_DEPTH:
                raise Unsound(f"it is nested more than {MAX_DEPTH} deep{_where(event)}")
        elif isinstance(event, yaml.CollectionEndEvent):
            node = nodes.pop()
            _count(node.size, node.anchor, nodes[-1], sizes)
        elif isinstance(event, yaml.ScalarEvent):
            _require_plain_tag(event)
            if nodes[-1].awaits_key:
                _require_new(event, nodes[-1])
            else:
                _require_finite(event)
            _count(1, event.anchor, nodes[-1], sizes)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise Unsound(f"*{event.anchor}{_where(event)} stands for nothing, or for what it is in")
            _count(sizes[event.anchor], None, nodes[-1], sizes)


def _count(size: int, anchor: str | None, parent: _Node, sizes: dict[str, int]) -> None:
    if anchor is not None:
        sizes[anchor] = size
    parent.children += 1
    parent.size += size
    if parent.size > MAX_VALUES:
        raise Unsound(f"its aliases stand for more than {MAX_VALUES:,} values")


def _require_plain_tag(event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
    if event.tag is not None and event.tag not in _TAGS:
        raise Unsound(f"it has the tag {shown(event.tag)}{_where(event)}; a config holds plain values only")


def _require_new(event: yaml.ScalarEvent, node: _Node) -> None:
    if event.value in node.keys and event.value != "<<":
        raise Unsound(f"{shown(event.value)} is given twice{_where(event)}; leave one")
    node.keys.add(event.value)


def _require_finite(event: yaml.ScalarEvent) -> None:
    if not event.implicit[0]:  # quoted: it is no number
        return
    if _TOO_LARGE.fullmatch(event.value):
        raise Unsound(f"the number {shown(event.value)}{_where(event)} is too large")
    if event.value[:1] in set("+-.0123456789") and not math.isfinite(_number(event.value)):
        raise Unsound(f"{event.value}{_where(event)} is no finite number")


def _number(text: str) -> float:
    """What a word could mean as a number, in Python's spelling; 0 of any that is none."""
    try:
        return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        return 0.0


def _where(event: yaml.Event) -> str:
    return "" if event.start_mark is None else f" (line {event.start_mark.line + 1})"
