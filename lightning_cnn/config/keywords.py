"""Settings that are given as keyword arguments in Python, as flags: they go the same way as those of a command line."""

from collections.abc import Iterator, Mapping, Sequence
from inspect import isclass, isfunction
from os import PathLike, fspath
from typing import Any

from lightning_cnn import data
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.config.class_settings import arguments, import_path, is_class
from lightning_cnn.config.flags import Flag
from lightning_cnn.config.schema import ELSEWHERE, Schema
from lightning_cnn.errors import UserError, did_you_mean


def read_keywords(keywords: Mapping[str, Any], schema: Schema) -> list[Flag]:
    """Return settings as flags.

    Args:
        keywords: Values by name. A name is that of the flag, for example `model.optimizer.lr`; that of an argument of
            the trainer, the data or the model without its group, `max_epochs` or `batch_size`; or one of
            `schema.ELSEWHERE`, for example `lr`. A mapping stands for the settings in it: `data={"val_size": 500}` is
            `data.val_size`. A class or a function stands for its name.
        schema: What can be set.

    Raises:
        UserError: If there is no setting with this name, it is given twice, or its value is no plain value.
    """
    flags: dict[str, Flag] = {}
    for keyword, value in keywords.items():
        for name, plain in _flattened(_full_name(keyword, schema), value):
            if name in flags:
                raise UserError(f"{name} is given twice; give it once")
            flags[name] = Flag(name, plain, is_parsed=True)
    return [*flags.values()]


def _full_name(keyword: str, schema: Schema) -> str:
    """Return the name of the flag of a keyword."""
    if "." in keyword or keyword in schema.names:
        return keyword
    short = _short_names(schema)
    if keyword not in short:
        raise UserError(f"there is no setting {keyword!r}{did_you_mean(keyword, [*schema.names, *short])}")
    return short[keyword]


def _short_names(schema: Schema) -> dict[str, str]:
    """Return the names of flags by those that they have without their group, which no two groups share."""
    modules = [getattr(data, name) for name in data.__all__ if name.endswith("DataModule")]
    owners = [("trainer", schema.groups["trainer"]), ("model", ImageClassifier), *(("data", cls) for cls in modules)]
    own = {name: f"{group}.{name}" for group, cls in owners for name in arguments(cls)}
    return {**own, **ELSEWHERE}


def _flattened(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the settings that a value stands for, with their names, as plain values."""
    if isinstance(value, Mapping) and value and not is_class(value):
        for key, item in value.items():
            yield from _flattened(f"{name}.{key}", item)
    else:
        yield name, _plain(name, value)


def _plain(name: str, value: Any) -> Any:
    """Return a value as YAML has it.

    Raises:
        UserError: If it is an object.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(name, item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(name, item) for item in value]
    if isclass(value) or isfunction(value):
        return import_path(value)  # type: ignore[arg-type]
    if isinstance(value, PathLike):
        return fspath(value)
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # a number of NumPy or torch
        return value.item()
    raise UserError(
        f"{name}: a setting is a plain value or a class, which a run can record, and no {type(value).__name__}; name "
        f"the class, as in {{'class_path': '{type(value).__name__}', 'init_args': {{…}}}}, or use Lightning's Trainer"
    )
