"""What a command line of `fit`, `validate` or `test` asks for, or a call: one tree of settings, and a checkpoint."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.checkpoint.onnx import is_onnx_file
from lightning_cnn.config.class_settings import arguments, is_class
from lightning_cnn.config.flags import CommandLine, Flag
from lightning_cnn.config.places import places_of, teachers_of, with_found_checkpoints, without_places
from lightning_cnn.config.schema import Schema
from lightning_cnn.config.settings import Tree, apply_flags, merge, read_settings, texts
from lightning_cnn.config.trust import trusted_settings
from lightning_cnn.errors import UserError, install_extra
from lightning_cnn.files import shipped_config
from lightning_cnn.run import CHECKPOINT_FORMS, Run, find_runs, resolve_checkpoint

#: The class in place of the one that the network of an ONNX file was trained with.
_EXPORTED = "lightning_cnn.classifiers.exported.ExportedClassifier"


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        command: `fit`, `validate` or `test`.
        settings: All settings that were given, defaults < checkpoint < configs < flags; checked against the schema.
        checkpoint: The file to resume from, or to evaluate.
        prints_config: Whether only the settings are to be printed.
    """

    command: str
    settings: Tree
    checkpoint: Path | None = None
    prints_config: bool = False


def default_settings(schema: Schema) -> Tree:
    """Return the settings of `default.yaml`, which every config overrides."""
    return read_settings(str(shipped_config("default.yaml")), schema)


def read_request(command: str, line: CommandLine, schema: Schema) -> Request:
    """Read all files that the command line of a command names, and merge the settings in them with its flags.

    Raises:
        UserError: If an argument, a config or the checkpoint is wrong.
    """
    if line.checkpoint is None and command != "fit":
        raise UserError(f"{command} needs a checkpoint: {CHECKPOINT_FORMS}")
    flags = [flag for flag in line.flags if flag.name != "print_config"]
    defaults = default_settings(schema)
    defaults = apply_flags(defaults, _environment_flags(schema), schema)
    configs = [read_settings(config, schema) for config in line.configs]
    stored, path = {}, None
    if line.checkpoint is not None:
        given = apply_flags(merge(*configs), flags, schema)
        root = Path((merge(defaults, given).get("trainer") or {}).get("default_root_dir") or ".")
        runs = _runs_with(_class_names(given), root)
        path = resolve_checkpoint(line.checkpoint, runs, folder_means="last" if command == "fit" else "best")
        named = {*texts(configs), *texts(given), *(flag.value for flag in flags if isinstance(flag.value, str))}
        stored = _stored_settings(path, command, named)
    settings = apply_flags(merge(defaults, stored, *configs), flags, schema)
    schema.check(settings)
    if command == "fit":
        _require_batch_size_is_used(flags, settings)
        settings = with_found_checkpoints(settings)
    return Request(command, settings, path, line.prints_config)


def _require_batch_size_is_used(flags: Iterable[Flag], settings: Tree) -> None:
    """Refuse a flag for the batch size of a device where the global one replaces it, wherever that is given."""
    data = settings.get("data")
    size = (data.get("init_args") or {}).get("global_batch_size") if isinstance(data, dict) else None
    for flag in flags:
        if flag.name == "data.batch_size" and size is not None:
            raise UserError(
                f"--data.batch_size {flag.value} would not be used, because data.global_batch_size {size} replaces it; "
                "leave it out, or add --data.global_batch_size null"
            )


def _environment_flags(schema: Schema) -> list[Flag]:
    """Return the settings of the trainer in the environment: `PL_TRAINER_MAX_EPOCHS` as `trainer.max_epochs`.

    As for Lightning's Trainer, they are defaults.
    """
    names = {name: f"PL_TRAINER_{name.upper()}" for name in arguments(schema.groups["trainer"])}
    found = {name: value for name, variable in names.items() if (value := os.environ.get(variable))}
    if found:
        shown = ", ".join(f"{names[name]}={value}" for name, value in found.items())
        rank_zero_info(f"Defaults from the environment, which configs and flags override: {shown}")
    return [Flag(f"trainer.{name}", value) for name, value in found.items()]


def _stored_settings(path: Path, command: str, named: Iterable[str]) -> Tree:
    """Return the settings in a checkpoint that describe its model and its data, and where its run has computed.

    Where it is only evaluated, nothing of its training is of use but the precision.
    """
    config: object = checkpoints.read_description(path)["config"]
    is_resumed, is_exported = command == "fit", is_onnx_file(path)
    if is_exported and is_resumed:
        raise UserError(f"{path} is an ONNX file, which cannot be trained; give the checkpoint that it was made from")
    if not is_resumed and isinstance(config, dict):
        trainer = config.get("trainer")
        precision = trainer.get("precision") if isinstance(trainer, dict) else None
        config = {key: config[key] for key in ("model", "data") if key in config} | {
            "trainer": {"precision": precision}
        }
    if is_exported and isinstance(config, dict):
        _require_runtime(path)
        config = _without_network(config)
    config_file = Run.of_checkpoint(path).config_file
    trusted = (set(named), config_file if config_file.is_file() else None)
    stored = trusted_settings(without_places(config, is_resumed), *trusted)
    own = {"model": {"class_path": _EXPORTED, "init_args": {"path": str(path)}}} if is_exported else {}
    places = trusted_settings(places_of(path, stored.get("data"), is_resumed), *trusted)
    return merge(stored, places, teachers_of(path) if is_resumed else {}, own)


def _require_runtime(path: Path) -> None:
    """Import the class that computes ONNX files, so that it is one of those that are known."""
    try:
        import_module(_EXPORTED.rpartition(".")[0])
    except ModuleNotFoundError as error:
        raise UserError(f"{path} is computed by {error.name}; {install_extra('export')}") from error


def _without_network(config: Tree) -> Tree:
    """Return the settings of an ONNX file, which computes in float32: its network is not built, only evaluated."""
    model = config.get("model")
    given = (model.get("init_args") or {}) if isinstance(model, dict) else {}
    kept = {name: given[name] for name in ("loss", "metrics") if given.get(name) is not None}
    return {
        **{name: config[name] for name in ("data",) if name in config},
        "model": {"class_path": _EXPORTED, "init_args": kept},
        "trainer": {"precision": "32-true"},
    }


def _runs_with(classes: dict[str, str], root: Path) -> Iterator[Run]:
    """Yield the runs that have these classes, newest first."""
    for run in find_runs(root):
        with suppress(UserError):  # a run that cannot be read is skipped
            if not classes or _class_names(run.read_config()).items() >= classes.items():
                yield run


def _class_names(tree: dict[str, Any]) -> dict[str, str]:
    """Return the names, without modules, of the model and data classes in a tree, as far as it has them."""
    paths = {
        key: tree[key]["class_path"] if is_class(tree[key]) else tree[key] for key in ("model", "data") if key in tree
    }
    return {key: path.rpartition(".")[2] for key, path in paths.items() if isinstance(path, str)}
