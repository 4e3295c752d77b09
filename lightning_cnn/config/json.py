"""Strict JSON: the files of run folders, within limits, and one clear line for what is refused.

Everything that is read as JSON from a run folder is read here. Imports neither torch nor jsonargparse.
"""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from lightning_cnn.errors import UserError
from lightning_cnn.files import read_limited

#: Size of the largest file in bytes; those of this project have a few thousand, and some more for many classes.
MAX_BYTES = 4_000_000
#: How deep lists and objects may be nested.
MAX_DEPTH = 50
#: How many digits a whole number may have, as many as 64 bits.
_MAX_DIGITS = 19


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; None if there is no file.

    Raises:
        UserError: If it is larger than `MAX_BYTES`, not text in UTF-8, not valid JSON, or not an object; if it is
            nested deeper than `MAX_DEPTH`, if a key is given twice, or if a number is not finite or beyond 64 bits.
    """
    if not path.is_file():
        return None
    try:
        return parse_json(read_limited(path, MAX_BYTES))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8; repair or delete it") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}; repair or delete it") from error
    except TypeError as error:
        raise UserError(f"{path} must be a JSON object, {error}; repair or delete it") from error


def parse_json(content: bytes) -> dict[str, Any]:
    """Return the object that JSON in UTF-8 holds, within the limits of `read_json` but that of its size.

    Raises:
        ValueError: If it is not valid JSON, as a `UnicodeDecodeError` if it is not text, or beyond a limit.
        TypeError: If it is not an object.
    """
    try:
        record = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_int=_integer,
            parse_float=_float,
        )
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    _require_depth(record)
    if not isinstance(record, dict):
        raise TypeError(f"got {record!r:.60}")
    return record


_TOO_DEEP = f"nested more than {MAX_DEPTH} deep"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"{twice!r:.60} is given twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > _MAX_DIGITS:
        raise ValueError(f"the number {text:.30}… is too large")
    return int(text)


def _float(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"the number {text:.30} is too large")
    return number


def _require_depth(record: Any) -> None:
    level = [record] if isinstance(record, dict | list) else []
    for _ in range(MAX_DEPTH):
        inside = (node.values() if isinstance(node, dict) else node for node in level)
        level = [child for children in inside for child in children if isinstance(child, dict | list)]
        if not level:
            return
    raise ValueError(_TOO_DEEP)
