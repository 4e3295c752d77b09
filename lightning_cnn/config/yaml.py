"""Strict YAML: plain values only, within limits, and one clear line for what is refused.

Everything that the package reads as YAML is read here, once. Imports neither torch nor jsonargparse.
"""

import math
import os
import re
import stat
from pathlib import Path
from typing import Any

import yaml

from lightning_cnn.errors import UserError, did_you_mean, reason
from lightning_cnn.files import shipped_configs
from lightning_cnn.text import in_one_line

#: Size of the largest file in bytes; the configs of this project have a few hundred.
MAX_BYTES = 100_000
#: How many values a file may hold, with every alias counted as all that it stands for.
MAX_VALUES = 20_000
#: How many characters its values may have, likewise.
MAX_TEXT = 1_000_000
#: How deep lists and mappings may be nested.
MAX_DEPTH = 50

_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null")} | {"!"}
#: YAML 1.2 numbers, as in jsonargparse: `1e-4` is a number, unlike in YAML 1.1.
_FLOATS = re.compile(
    r"""^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
    |[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)
_INTEGERS = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$")
#: Whole numbers beyond 64 bits: decimal, hexadecimal, binary.
_TOO_LARGE = re.compile(r"[-+]?([0-9][0-9_]{19,}|0x[0-9a-fA-F_]{17,}|0b[01_]{65,})")


class InvalidConfigError(yaml.YAMLError):
    """The text is YAML, but breaks a rule of this module."""


def _resolvers(base: dict[str, Any]) -> dict[str, Any]:
    """The implicit types of scalars: dates and times such as 1:30 stay text, and floats are those of YAML 1.2."""
    kept = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_TIMESTAMP, _FLOAT, _INT)]
        for first, resolvers in base.items()
    }
    numbers = [(_FLOAT, _FLOATS), (_INT, _INTEGERS)]
    return kept | {first: [*kept.get(first, []), *numbers] for first in "-+.0123456789"}


class _Loader(yaml.SafeLoader):
    """Refuses what breaks the rules while it composes the nodes, before anything is made of them."""

    yaml_implicit_resolvers = _resolvers(yaml.SafeLoader.yaml_implicit_resolvers)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._values = 0

    def compose_document(self) -> Any:
        document = super().compose_document()
        if self.check_event(yaml.DocumentStartEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]  # has no types
            raise InvalidConfigError(f"several documents{_line(event)}; keep one, without a line ---")
        return document

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            if not hasattr(self.anchors.get(event.anchor), "size"):  # none, or one that is not complete yet
                raise InvalidConfigError(f"*{event.anchor}{_line(event)} has no anchor before it")
            return super().compose_node(parent, index)
        if event.tag is not None and event.tag not in _PLAIN_TAGS:
            raise InvalidConfigError(f"the tag {describe(event.tag)}{_line(event)}; only plain values are allowed")
        self._values += 1
        if self._values > MAX_VALUES:  # before all are read, which takes seconds
            raise InvalidConfigError(f"it has more than {MAX_VALUES:,} values")
        self._depth += 1
        if self._depth >= MAX_DEPTH:
            raise InvalidConfigError(f"nested more than {MAX_DEPTH} deep{_line(event)}")
        node = super().compose_node(parent, index)
        self._depth -= 1
        assert node is not None
        # Aliases count as what they name.
        children = _children(node)
        node.size = 1 + sum(child.size for child in children)  # type: ignore[attr-defined]
        text = len(node.value) if isinstance(node, yaml.ScalarNode) else 0
        node.length = text + sum(child.length for child in children)  # type: ignore[attr-defined]
        for number, most, what in ((node.size, MAX_VALUES, "values"), (node.length, MAX_TEXT, "characters")):  # type: ignore[attr-defined]
            if number > most:
                raise InvalidConfigError(f"its aliases stand for more than {most:,} {what}")
        if isinstance(node, yaml.ScalarNode) and event.implicit[0]:  # not quoted
            _require_valid_number(node)
        return node


class _Dumper(yaml.SafeDumper):
    """Writes YAML that `_Loader` reads back unchanged."""

    yaml_implicit_resolvers = _resolvers(yaml.SafeDumper.yaml_implicit_resolvers)


def load(text: str) -> Any:
    """Return what YAML text says. Anchors, aliases and merge keys may be used.

    Raises:
        yaml.YAMLError: If it is not YAML; or, as `InvalidConfigError`, if a key is given twice, if it has more than
            `MAX_VALUES` values or `MAX_TEXT` characters, aliases counted as what they stand for, if it is nested deeper
            than `MAX_DEPTH`, if it has tags or several documents, or if a number is not finite or beyond 64 bits.

    Example:
        >>> load("{lr: 1e-3, date: 2024-01-01}")
        {'lr': 0.001, 'date': '2024-01-01'}
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except ValueError as error:  # a number in YAML, but not in Python
        raise InvalidConfigError(f"invalid number ({error})") from error


def dump(content: Any) -> str:
    """Return plain values as YAML text, which `load` reads back."""
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False)
    return text


def find_config(path: Path) -> Path:
    """Return the config that a user has named: what is there, or else the config of this package with this name.

    Example:
        >>> find_config(Path("mnist/cnn")) == find_config(Path("configs/mnist/cnn.yaml"))
        True
        >>> find_config(Path("mine.yaml")).as_posix()
        'mine.yaml'
    """
    is_there = os.path.lexists(path)  # of any text, without errors
    return path if is_there else shipped_configs().get(_short_name(path), path)


def read_config(path: Path) -> dict[str, Any]:
    """Return the settings in a config file.

    Raises:
        UserError: If it is not a file, larger than `MAX_BYTES`, not text in UTF-8, not valid YAML, or has no settings.
    """
    return _require_mapping(read_yaml(path), str(path))


def read_yaml(path: Path) -> Any:
    """Return what a YAML file says.

    Raises:
        UserError: If it is not a file, larger than `MAX_BYTES`, not text in UTF-8, or not valid YAML.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe or a device may block
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or a pipe"
            raise UserError(f"{path} is not a config: it is {kind}; give a YAML file")
        if status.st_size > MAX_BYTES:
            raise UserError(f"{path} is not a config: it has {status.st_size:,} bytes, more than {MAX_BYTES:,}")
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a config: it is not text in UTF-8") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise UserError(
            f"config {describe(str(path))} cannot be read ({reason(error)}); give a YAML file, or the name of a config "
            f"of this package, such as mnist/cnn{did_you_mean(_short_name(path), shipped_configs())}"
        ) from error
    if "\0" in text:
        raise UserError(f"{path} is not a config: it has NUL bytes, so it is not text")
    return _load_named(text, str(path))


def parse_config(text: str, name: str) -> dict[str, Any]:
    """Return the settings in a text; `name` is what messages call it.

    Raises:
        UserError: If it is not valid YAML, or has no settings.
    """
    return _require_mapping(_load_named(text, name), name)


def is_readable(path: Path) -> bool:
    """Whether the path exists and is not a folder."""
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):  # missing, too long, or with a NUL character
        return False


def _short_name(path: Path) -> str:
    return path.as_posix().removeprefix("configs/").removesuffix(".yaml")


def describe(value: object) -> str:
    """Return a value for a message: in one line, at most 80 characters."""
    text = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return text if len(text) <= 80 else f"{text[:77]}…"


def _load_named(text: str, name: str) -> Any:
    try:
        return load(text)
    except InvalidConfigError as error:
        raise UserError(f"{name} is not a valid config: {error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{name} is not valid YAML: {_explain(error)}") from error


def _require_mapping(content: object, name: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        given = "it has no settings" if content is None else f"got {describe(content)}"
        raise UserError(f"{name} is not a config: it must map settings such as trainer to values, {given}")
    return content


def _children(node: yaml.Node) -> list[Any]:
    """Return the values in a node, keys included."""
    if isinstance(node, yaml.MappingNode):
        _require_unique_keys(node)
        return [child for pair in node.value for child in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _require_unique_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if key.value in seen:
                raise InvalidConfigError(f"{describe(key.value)} is given twice{_line(key)}; keep one")
            seen.add(key.value)


def _require_valid_number(node: yaml.ScalarNode) -> None:
    if _TOO_LARGE.fullmatch(node.value):
        raise InvalidConfigError(f"the number {describe(node.value)}{_line(node)} is too large")
    text = node.value.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan")
    if node.tag == _FLOAT and not math.isfinite(float(text)):
        raise InvalidConfigError(f"{node.value}{_line(node)} is not a finite number")


def _explain(error: yaml.YAMLError) -> str:
    """Return what is wrong, and where, in one line."""
    mark = getattr(error, "problem_mark", None)
    where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
    return f"{in_one_line(getattr(error, 'problem', None) or error)}{where}"


def _line(place: yaml.Event | yaml.Node) -> str:
    return "" if place.start_mark is None else f" (line {place.start_mark.line + 1})"
