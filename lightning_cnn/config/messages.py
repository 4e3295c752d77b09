"""What the parser refuses, as one line that names the setting, its value and what is expected.

Unknown names and classes are found before the parser sees them (`schema`); what is left are types. Of the parser's
report only the names of the setting are read: the value is looked up in the tree, the type in the class.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from lightning_cnn.config.schema import Schema, describe_type
from lightning_cnn.config.yaml import describe

#: How jsonargparse 4.53 names a setting, at every level at which it is nested.
_KEY = re.compile(r'Parser key "([^"]+)"')
_LONGEST = 500


def explain(report: str, tree: Mapping[str, Any], schema: Schema) -> str:
    """Return what the parser reports of a tree of settings as one line."""
    names = list(dict.fromkeys(name for key in _KEY.findall(report) for name in key.split(".")))
    try:
        value, annotation = schema.find(tree, names)
    except (LookupError, ValueError, StopIteration):
        return in_one_line(report)
    flag = f"--{'.'.join(names)}"
    shown = value if isinstance(value, str) else json.dumps(value, default=describe)[:100]
    expected = "another type" if annotation is None else describe_type(annotation)
    return f"{flag}{f' {shown}' if value != '' else ''}: expected {expected}"


def root_cause(error: BaseException) -> BaseException:
    """Return the exception of the constructor that an error of the parser was raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def in_one_line(message: object) -> str:
    """Return the message of a library or a constructor as one line."""
    text = " ".join(re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", str(message)).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
