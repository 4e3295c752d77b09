"""From files, a checkpoint and flags to one tree of settings: every file is read once, and trees are merged.

A tree is what YAML gives: plain values, lists and mappings. A setting that takes a class is a mapping with `class_path`
and `init_args`. Later trees override earlier ones: defaults < checkpoint < configs < flags.
"""

import inspect
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

import yaml

from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.config.class_settings import (
    BASES,
    CLASS_KEYS,
    arguments,
    find_class,
    import_path,
    is_class,
    kind_of,
    kinds,
    names_class,
)
from lightning_cnn.config.flags import Flag
from lightning_cnn.config.schema import FOLDERS, LOCAL_FOLDERS, Schema
from lightning_cnn.config.yaml import (
    InvalidConfigError,
    describe,
    find_config,
    is_readable,
    load,
    parse_config,
    read_config,
    read_yaml,
)
from lightning_cnn.errors import UserError, did_you_mean
from lightning_cnn.files import local_path

Tree = dict[str, Any]
#: The most files that a config names, and those in turn.
_MAX_FILES = 50


def read_settings(config: str, schema: Schema) -> Tree:
    """Return the settings of a `--config`: of a file, of a config of this package by its name, or of YAML text.

    Where a group of settings or a class is expected, a file may be named; its content takes the place of its name.

    Raises:
        UserError: If a file is not a valid config, or has unknown settings.
    """
    path = local_path(config, "--config") if re.match(r"~|\w+://", config) else Path(config)  # otherwise it may be YAML
    if not is_readable(path) and (":" in config or config.startswith("{")):
        name, folder = f"--config {describe(config)}", Path()
        tree = parse_config(config, name)
    else:
        path = find_config(path)
        name, folder, tree = config, path.parent, read_config(path)
    for key in tree:
        if key not in schema.names:
            raise UserError(f"{name}: there is no setting {describe(key)}{did_you_mean(str(key), schema.names)}")
    expanded: Tree = _expand(tree, "", folder, name, schema)
    for key, value in expanded.items():
        if key in schema.groups and not isinstance(value, Mapping):
            raise UserError(f"{name}: {key} must map settings to values, got {describe(value)}")
    return expanded


def merge(*trees: Tree) -> Tree:
    """Return one tree in which later trees override earlier ones.

    Groups of settings and the arguments of classes are merged; lists, and mappings that are the value of a setting, are
    replaced. Where another class is chosen, the arguments that both classes have are kept.

    Raises:
        UserError: If an unknown class is chosen.
    """
    merged: Tree = {}
    for tree in trees:
        merged = _merge_mappings(merged, tree, ())
    return merged


def apply_flags(tree: Tree, flags: Iterable[Flag], schema: Schema) -> Tree:
    """Return the tree with the flags applied.

    Raises:
        UserError: If a flag names an unknown setting, or its value is not valid YAML.
    """
    for flag in flags:
        tree = _Change(flag, schema).of_tree(tree)
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


def _expand(
    value: Any, setting: str, folder: Path, source: str, schema: Schema, files: list[Path] | None = None
) -> Any:
    """Replace the names of files by their content, and refuse malformed settings; `files` gets those that are read."""
    files = [] if files is None else files
    if isinstance(value, list):
        return [_expand(item, setting, folder, source, schema, files) for item in value]
    if isinstance(value, Mapping):
        has_names = setting in ("", *CLASS_KEYS, *schema.groups, *BASES)  # otherwise, it is the value of a setting
        for key, item in value.items():
            if type(key) is int and not has_names:
                continue
            if not isinstance(key, str) or not key or key.startswith("__"):
                raise UserError(f"{source}: {describe(key)} is not the name of a setting")
            if key == "class_path" and not isinstance(item, str):
                raise UserError(f"{source}: class_path must be the name of a class, got {describe(item)}")
            if key == "init_args" and not isinstance(item, Mapping):
                raise UserError(f"{source}: init_args must map arguments to values, got {describe(item)}")
        return {key: _expand(item, key, folder, source, schema, files) for key, item in value.items()}
    if isinstance(value, str) and value and setting in FOLDERS and (setting in LOCAL_FOLDERS or "://" not in value):
        return str(local_path(value, source if source.endswith(setting) else f"{source}: {setting}"))
    if isinstance(value, str) and (setting in schema.groups or setting in BASES):
        path = folder / os.path.expanduser(value)  # noqa: PTH111  # `Path.expanduser` raises RuntimeError
        if is_readable(path):
            files.append(path)
            if len(files) > _MAX_FILES:
                raise UserError(f"{path} is one of more than {_MAX_FILES} files, or names itself; name fewer")
            return _expand(read_yaml(path), setting, path.parent, str(path), schema, files)
    return value


def _merge_mappings(base: Tree, overlay: Mapping[str, Any], place: tuple[str, ...]) -> Tree:
    merged = dict(base)
    for key, value in overlay.items():
        if key in CLASS_KEYS and isinstance(value, Mapping):
            merged[key] = _merge_mappings(dict(merged.get(key) or {}), value, place)
        else:
            merged[key] = _merge_values(merged.get(key), value, (*place, key))
    return merged


def _merge_values(base: object, overlay: Any, place: tuple[str, ...]) -> Any:
    if place and place[-1] == "callbacks" and isinstance(overlay, str | Mapping):
        overlay = [overlay]
    if isinstance(base, Mapping) and is_class(base) and names_class(place, overlay):
        overlay = {"class_path": overlay}
    has_names = len(place) < 2 or kind_of(place) in BASES or is_class(base) or is_class(overlay)
    if not isinstance(overlay, Mapping) or not has_names:
        return overlay
    base = base if isinstance(base, Mapping) else {}
    if is_class(base) and is_class(overlay):
        base = _with_class(base, overlay["class_path"], place)
    return _merge_mappings(dict(base), overlay, place)


def _with_class(setting: Mapping[str, Any], path: str, place: tuple[str, ...]) -> Tree:
    """Return the setting with another class, and with the arguments that this class has as well."""
    if setting["class_path"] == path:
        return dict(setting)
    if kind_of(place) not in BASES:  # an argument that takes a class of another kind; only the parser looks it up
        return {"class_path": path}
    old, new = find_class(place, setting["class_path"]), find_class(place, path)
    if old is new:
        return dict(setting)
    kept = {name: value for name, value in (setting.get("init_args") or {}).items() if name in arguments(new)}
    return {"class_path": path, "init_args": kept}


@dataclass(frozen=True)
class _Change:
    """What a flag changes in a tree; trees are not modified, but copied as far as they change."""

    flag: Flag
    schema: Schema

    def of_tree(self, tree: Tree) -> Tree:
        """Return the tree with the setting changed."""
        names = self.flag.name.split(".")
        first, *rest = [name for name in names if name not in CLASS_KEYS] or names  # they may be left out
        if first not in self.schema.names or (rest and first in self.schema.options):
            raise self.schema.no_such_option(self.flag.name)
        if self.flag.value is None and not self.flag.is_parsed:
            raise UserError(f"--{self.flag.name} needs a value: --{self.flag.name} VALUE")
        if rest and (group := self.schema.groups.get(first)) is not None:
            return {**tree, first: self._of_settings(tree.get(first) or {}, rest, (first,), group)}
        return self._of_settings(tree, [first, *rest], (), None)

    def _of_settings(self, settings: Tree, names: list[str], place: tuple[str, ...], owner: type[Any] | None) -> Tree:
        """Return the settings at a place with the one changed that `names` lead to; `owner` takes them as arguments."""
        name, *rest = names
        parameter = None if owner is None else arguments(owner).get(name)
        before = settings.get(name)
        if not rest:
            return {**settings, name: self._new_value(before, (*place, name), parameter)}
        if before is None and parameter is not None and isinstance(parameter.default, type):
            before = import_path(parameter.default)
        if kind_of((*place, name)) in BASES:
            return {**settings, name: self._of_class(before, rest, (*place, name))}
        if (
            before is None
            and parameter is not None
            and any(get_origin(kind) is dict for kind in kinds(parameter.annotation))
        ):
            before = {}
        if not isinstance(before, Mapping):
            known = arguments(owner) if owner is not None and parameter is None else {}
            beside = [".".join((*place, argument, *rest)) for argument in known]
            raise self.schema.no_such_option(self.flag.name, beside)
        return {**settings, name: self._of_settings(dict(before), rest, (*place, name), None)}

    def _of_class(self, value: Any, names: list[str], place: tuple[str, ...]) -> Any:
        """Return a class with one of its arguments changed; in a list, the last class."""
        if isinstance(value, list) and value:
            return [*value[:-1], self._of_class(value[-1], names, place)]
        chosen: Tree = {"class_path": value} if isinstance(value, str) else dict(value or {})
        if place == ("model",) and names[0] == "network" and not is_class(chosen):
            chosen["class_path"] = import_path(ImageClassifier)
        cls = find_class(place, chosen["class_path"]) if is_class(chosen) else None
        return {**chosen, "init_args": self._of_settings(chosen.get("init_args") or {}, names, place, cls)}

    def _new_value(self, before: Any, place: tuple[str, ...], parameter: inspect.Parameter | None) -> Any:
        """Return the new value of the setting."""
        given = _value(self.flag, parameter)
        value = _expand({place[-1]: given}, "", Path(), f"--{self.flag.name}", self.schema)[place[-1]]
        if self.flag.appends:
            kept = before if isinstance(before, list) else [] if before is None else [before]
            return [*kept, *(value if isinstance(value, list) else [value])]
        return _merge_values(before, value, place)


def _value(flag: Flag, parameter: inspect.Parameter | None) -> Any:
    """Return the value of a flag, parsed as YAML unless the setting takes text."""
    if (
        flag.is_parsed
        or not flag.value
        or (parameter is not None and _is_text(parameter.annotation) and flag.value != "null")
    ):
        return flag.value
    try:
        return load(flag.value)
    except InvalidConfigError as error:
        if set(flag.value) & set("{[:") or flag.value[:1] in set("+-.0123456789"):
            raise UserError(f"--{flag.name} {describe(flag.value)}: {error}") from error
    except yaml.YAMLError:
        pass
    return flag.value  # not YAML, so it is text


def _is_text(annotation: Any) -> bool:
    """Whether an argument takes nothing but text, or a path."""
    return all(kind in (str, Path, os.PathLike) for kind in kinds(annotation))
