"""Where a run computes, and with how much: settings of the user's, which a checkpoint does not decide.

They come from flags, configs and the environment. Where the checkpoint is one of a run, they also come from that run's
own `config.yaml`, so that the run is resumed or tested as it was trained, but only folders that are there.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning_cnn.config.schema import FOLDERS
from lightning_cnn.config.settings import Tree
from lightning_cnn.errors import UserError
from lightning_cnn.run import CHECKPOINT_NAMES, DEFAULT_ROOT, Run, find_runs, resolve_checkpoint

#: Settings of the trainer that say which processes there are, and what else is written about them.
PROCESSES = ("accelerator", "devices", "num_nodes", "strategy", "plugins", "logger", "profiler")
#: Settings of the data that are files, folders or addresses …
PLACES = (*FOLDERS, "labels", "mirrors")
#: … and images per step, which decide how much memory is needed.
SIZES = ("batch_size", "eval_batch_size", "global_batch_size")
#: The most images per step that a checkpoint alone may ask for.
_MOST_IMAGES = 4096


def without_places(config: object, is_resumed: bool) -> object:
    """Return the settings in a checkpoint without those that are the user's; `config` is not changed.

    Args:
        config: The settings, of any type.
        is_resumed: Whether training is resumed, which keeps the images per step.
    """
    if not isinstance(config, dict):
        return config
    kept = dict(config)
    if isinstance(trainer := config.get("trainer"), dict):
        kept["trainer"] = {name: value for name, value in trainer.items() if name not in PROCESSES}
    if isinstance(distillation := config.get("distillation"), dict):
        kept["distillation"] = {name: value for name, value in distillation.items() if name != "teachers"}
    data = config.get("data")
    if isinstance(data, dict) and isinstance(given := data.get("init_args"), dict):
        kept["data"] = {**data, "init_args": {k: v for k, v in given.items() if _is_kept(k, v, is_resumed)}}
    return kept


def _is_kept(name: object, value: object, is_resumed: bool) -> bool:
    if name in SIZES:
        return is_resumed and (value is None or (type(value) is int and value <= _MOST_IMAGES))
    return name not in PLACES


def places_of(checkpoint: Path, data: object, is_resumed: bool) -> Tree:
    """Return the settings of this module in the `config.yaml` of the run that a checkpoint belongs to.

    Args:
        checkpoint: The file; if it is a copy elsewhere, nothing is returned.
        data: The settings of the data in the checkpoint.
        is_resumed: Whether training is resumed; otherwise only the data's are of use.
    """
    config = own_config(checkpoint)
    trainer, own = config.get("trainer"), config.get("data")
    found: Tree = {}
    if is_resumed and isinstance(trainer, Mapping):
        found["trainer"] = {name: trainer[name] for name in PROCESSES if trainer.get(name) is not None}
    if isinstance(own, dict) and isinstance(data, dict) and own.get("class_path") == data.get("class_path"):
        given = own.get("init_args")
        arguments = {k: v for k, v in given.items() if _is_of_use(k, v, is_resumed)} if isinstance(given, dict) else {}
        found["data"] = {"class_path": own["class_path"], "init_args": arguments}
    return found


def with_found_checkpoints(settings: Tree) -> Tree:
    """Return settings with the files of teachers, and of weights, that are named `best`, `last` or `previous`.

    A run records them: when it is resumed or repeated, the newest run is another one, or itself.

    Raises:
        UserError: If there is none.
    """
    found = dict(settings)
    distillation, model = settings.get("distillation"), settings.get("model")
    if isinstance(distillation, dict) and isinstance(teachers := distillation.get("teachers"), list):
        found["distillation"] = {**distillation, "teachers": [*map(_found, teachers)]}
    given = model.get("init_args") if isinstance(model, dict) else None
    if isinstance(model, dict) and isinstance(given, dict) and "weights" in given:
        found["model"] = {**model, "init_args": {**given, "weights": _found(given["weights"])}}
    return found


def _found(reference: Any) -> Any:
    if not isinstance(reference, str) or reference not in CHECKPOINT_NAMES:
        return reference
    return str(resolve_checkpoint(reference, find_runs(DEFAULT_ROOT), folder_means="best"))


def teachers_of(checkpoint: Path) -> Tree:
    """Return the teachers in the `config.yaml` of the run that a checkpoint belongs to: files that are the user's.

    Args:
        checkpoint: The file; if it is a copy elsewhere, nothing is returned.
    """
    own = own_config(checkpoint).get("distillation")
    names = own.get("teachers") if isinstance(own, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return {}
    return {"distillation": {"teachers": names}}


def own_config(checkpoint: Path) -> Tree:
    """Return the `config.yaml` of the run that a checkpoint belongs to; empty if there is none or it is damaged."""
    run = Run.of_checkpoint(checkpoint)
    if run.has_checkpoint(checkpoint) and run.config_file.is_file():
        with suppress(UserError):  # what is missing then is asked for
            return run.read_config()
    return {}


def _is_of_use(name: str, value: Any, is_resumed: bool) -> bool:
    if name in SIZES:
        return is_resumed or (name == "eval_batch_size" and type(value) is int and value <= _MOST_IMAGES)
    if name not in PLACES or not isinstance(value, str):
        return False
    if name == "data_dir" and os.environ.get("LIGHTNING_CNN_DATA_DIR"):
        return False
    return os.path.exists(os.path.expanduser(value))  # noqa: PTH110, PTH111  # of any text, without errors
