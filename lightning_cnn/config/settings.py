"""From files, a checkpoint and flags to one tree of settings: every file is read once, and trees are merged.

A tree is what YAML gives: plain values, lists and mappings. A setting that takes a class is a mapping with `class_path`
and `init_args`. Later trees override earlier ones: defaults < checkpoint < configs < flags.
"""

import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import yaml

from lightning_cnn.config.flags import Flag
from lightning_cnn.config.schema import BASES, CLASS_KEYS, Schema, arguments, find_class, is_class
from lightning_cnn.config.yaml import (
    InvalidConfigError,
    describe,
    is_readable,
    load,
    parse_config,
    read_config,
    read_yaml,
)
from lightning_cnn.errors import UserError, did_you_mean

Tree = dict[str, Any]


def read_settings(config: str, schema: Schema) -> Tree:
    """Return the settings of a `--config`: of a file, or of YAML text.

    Where a group of settings or a class is expected, a file may be named; its content takes the place of its name.

    Raises:
        UserError: If a file is not a valid config, or has settings that there are not.
    """
    path = Path(config)
    if not is_readable(path) and (":" in config or config.startswith("{")):
        name, tree = f"--config {describe(config)}", parse_config(config, f"--config {describe(config)}")
    else:
        name, tree = config, read_config(path)
    for key in tree:
        if key not in schema.names:
            raise UserError(f"{name}: there is no setting {describe(key)}{did_you_mean(str(key), schema.names)}")
    expanded: Tree = _expand(tree, "", path.parent, name, schema)
    for key, value in expanded.items():
        if key in schema.groups and not isinstance(value, Mapping):
            raise UserError(f"{name}: {key} must map settings to values, got {describe(value)}")
    return expanded


def merge(*trees: Tree) -> Tree:
    """Return one tree in which later trees override earlier ones.

    Mappings are merged, lists replaced. Where another class is chosen, those arguments of the earlier one are kept that
    it has as well.

    Raises:
        UserError: If a class is chosen that there is not.
    """
    merged: Tree = {}
    for tree in trees:
        merged = _merge_mappings(merged, tree, ())
    return merged


def apply_flags(tree: Tree, flags: Iterable[Flag], schema: Schema) -> Tree:
    """Return a tree in which flags override what it says.

    Raises:
        UserError: If a flag is for a setting that there is not, or its value is not valid YAML.
    """
    for flag in flags:
        tree = _apply(tree, flag, schema)
    return tree


def texts(tree: object) -> Iterator[str]:
    """Yield all text in a tree."""
    if isinstance(tree, Mapping):
        tree = list(tree.values())
    if isinstance(tree, list):
        for value in tree:
            yield from texts(value)
    elif isinstance(tree, str):
        yield tree


def _expand(value: Any, setting: str, folder: Path, source: str, schema: Schema) -> Any:
    """Put the content of files in the place of their names, and refuse what has not the form of settings."""
    if isinstance(value, list):
        return [_expand(item, setting, folder, source, schema) for item in value]
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str) or not key or key.startswith("__"):
                raise UserError(f"{source}: {describe(key)} is not the name of a setting")
            if key == "class_path" and not isinstance(item, str):
                raise UserError(f"{source}: class_path must be the name of a class, got {describe(item)}")
            if key == "init_args" and not isinstance(item, Mapping):
                raise UserError(f"{source}: init_args must map arguments to values, got {describe(item)}")
        return {key: _expand(item, key, folder, source, schema) for key, item in value.items()}
    if isinstance(value, str) and (setting in schema.groups or setting in BASES):
        path = folder / value
        if is_readable(path):
            return _expand(read_yaml(path), setting, path.parent, str(path), schema)
    return value


def _merge_mappings(base: Tree, overlay: Mapping[str, Any], place: tuple[str, ...]) -> Tree:
    merged = dict(base)
    for key, value in overlay.items():
        inner = place if key in CLASS_KEYS else (*place, key)
        merged[key] = _merge_values(merged.get(key), value, inner)
    return merged


def _merge_values(base: object, overlay: Any, place: tuple[str, ...]) -> Any:
    if place and place[-1] == "callbacks" and isinstance(overlay, str | Mapping):
        overlay = [overlay]
    if place and place[-1] in BASES and isinstance(base, Mapping) and isinstance(overlay, str) and is_class(base):
        overlay = {"class_path": overlay}
    if not isinstance(overlay, Mapping):
        return overlay
    base = base if isinstance(base, Mapping) else {}
    if is_class(base) and is_class(overlay):
        base = _with_class(base, overlay["class_path"], place)
    return _merge_mappings(dict(base), overlay, place)


def _with_class(setting: Mapping[str, Any], path: str, place: tuple[str, ...]) -> Tree:
    """Return the setting with another class, and of its arguments those that this class has."""
    old, new = find_class(place, setting["class_path"]), find_class(place, path)
    if old is new:
        return dict(setting)
    kept = {name: value for name, value in (setting.get("init_args") or {}).items() if name in arguments(new)}
    return {"class_path": path, "init_args": kept}


def _apply(tree: Tree, flag: Flag, schema: Schema) -> Tree:
    first, *rest = (name for name in flag.name.split(".") if name not in CLASS_KEYS)  # they may be left out
    if first not in schema.names:
        raise UserError(f"there is no option --{flag.name}{did_you_mean(f'--{flag.name}', schema.flags())}")
    if flag.value is None:
        raise UserError(f"--{flag.name} needs a value: --{flag.name} VALUE")
    if not rest:
        value = _value(flag, None)
        overlay = _expand({first: value}, "", Path(), f"--{flag.name}", schema)
        return _merge_mappings(tree, overlay, ())
    child = _open(tree.get(first), (first,), None)
    owner = schema.groups.get(first) or _class_of(child, (first,))
    return {**tree, first: _set(child, rest, (first,), owner, flag, schema)}


def _set(
    node: Tree, names: list[str], place: tuple[str, ...], owner: type[Any] | None, flag: Flag, schema: Schema
) -> Tree:
    """Return a group or a class with one of its settings changed; `owner` is the class that has these settings."""
    if is_class(node) or place[-1] in BASES:
        return {**node, "init_args": _set(node.get("init_args") or {}, names, (*place, ""), owner, flag, schema)}
    place = tuple(filter(None, place))
    name, *rest = names
    parameter = None if owner is None else arguments(owner).get(name)
    if rest:
        if name not in BASES and not isinstance(node.get(name), Mapping):
            raise UserError(f"there is no option --{flag.name}{did_you_mean(f'--{flag.name}', schema.flags())}")
        if isinstance(items := node.get(name), list) and items:  # the flag is for the last one
            child = _open(items[-1], (*place, name), None)
            changed = _set(child, rest, (*place, name), _class_of(child, (*place, name)), flag, schema)
            return {**node, name: [*items[:-1], changed]}
        child = _open(node.get(name), (*place, name), parameter)
        return {**node, name: _set(child, rest, (*place, name), _class_of(child, (*place, name)), flag, schema)}
    value = _expand({name: _value(flag, parameter)}, "", Path(), f"--{flag.name}", schema)[name]
    if flag.appends:
        before = node.get(name)
        before = before if isinstance(before, list) else [] if before is None else [before]
        return {**node, name: [*before, *(value if isinstance(value, list) else [value])]}
    return {**node, name: _merge_values(node.get(name), value, (*place, name))}


def _open(value: Any, place: tuple[str, ...], parameter: inspect.Parameter | None) -> Tree:
    """Return a setting as a mapping in which settings can be changed; where it is not given, its default."""
    if value is None and parameter is not None and isinstance(parameter.default, type):
        value = _import_path(parameter.default)
    if isinstance(value, str) and place[-1] in BASES:
        return {"class_path": value}
    return dict(value) if isinstance(value, Mapping) else {}


def _class_of(node: Tree, place: tuple[str, ...]) -> type[Any] | None:
    return find_class(place, node["class_path"]) if is_class(node) else None


def _import_path(cls: type[Any]) -> str:
    """Return the shortest path by which a class can be imported: `torch.optim.Adam`, not `torch.optim.adam.Adam`."""
    parts = cls.__module__.split(".")
    modules = (".".join(parts[: n + 1]) for n in range(len(parts)))
    return next(f"{m}.{cls.__name__}" for m in modules if getattr(sys.modules.get(m), cls.__name__, None) is cls)


def _value(flag: Flag, parameter: inspect.Parameter | None) -> Any:
    """Return what the value of a flag says in YAML, or its text where text is meant."""
    assert flag.value is not None
    if not flag.value or (parameter is not None and _is_text(parameter.annotation) and flag.value != "null"):
        return flag.value
    try:
        return load(flag.value)
    except InvalidConfigError as error:
        if set(flag.value) & set("{[:") or flag.value[:1] in set("+-.0123456789"):
            raise UserError(f"--{flag.name} {describe(flag.value)}: {error}") from error
    except yaml.YAMLError:
        pass
    return flag.value  # any other text may be meant as such


def _is_text(annotation: Any) -> bool:
    """Whether an argument takes nothing but text, or a path."""
    union = get_origin(annotation) in (Union, UnionType)
    types = {kind for kind in (get_args(annotation) if union else (annotation,)) if kind is not NoneType}
    return bool(types) and types <= {str, Path, os.PathLike}
