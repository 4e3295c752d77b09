"""From words to settings: the order of defaults, checkpoint, config and flags, and what to say of a wrong word."""

import argparse
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn

import yaml
from lightning.pytorch.cli import LightningArgumentParser

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.cli import suggest
from lightning_cnn.commands.messages import explain
from lightning_cnn.errors import UserError


class Parser(LightningArgumentParser):
    """Raises `UserError` instead of printing the usage and leaving."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the message, in one line, as `UserError`."""
        if not self.exit_on_error:  # a parser inside another's, which explains all of it
            super().error(message, ex)
        raise UserError(explain(message, self._option_string_actions)) from ex


class _Words(argparse.ArgumentParser):
    """Finds a few flags among others that it does not know."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def with_checkpoint(argv: list[str]) -> tuple[list[str], Path | None]:
    """Return the arguments with what the checkpoint says put before all others, so that they win; and its file.

    Raises:
        UserError: If the checkpoint is missing, where one is needed, or cannot be read.
    """
    command, *words = argv
    # Configs first, so that flags win wherever they stand.
    configs, words = _take(words, "--config", "-c")
    first = [word for config in configs for word in ("--config", config)]
    references, words = _take(words, "--ckpt_path")
    if not references:
        if command != "fit" and not {"-h", "--help"} & set(words):
            raise UserError(f"{command} needs --ckpt_path: a file, a run folder, `best` or `last`")
        return [command, *first, *words], None
    wanted = _classes(configs, {"model": _last(words, "--model"), "data": _last(words, "--data")})
    root = Path(_last(words, "--trainer.default_root_dir") or "logs")
    runs = [run for run in checkpoints.run_folders(root) if _fits(run, wanted)]
    path = checkpoints.resolve(references[-1], runs, folder_means="last" if command == "fit" else "best")
    config = checkpoints.read_description(path)["config"]
    if command != "fit":  # of how a model was trained, only the precision matters where it is measured
        precision = config.get("trainer", {}).get("precision")
        config = {key: config[key] for key in ("model", "data") if key in config}
        config["trainer"] = {"precision": precision}
    return [command, "--config", json.dumps(config), *first, *words, "--ckpt_path", str(path)], path


def _take(words: list[str], *flags: str) -> tuple[list[str], list[str]]:
    """Return the values of a flag and the words without it and them."""
    parser = _Words(add_help=False, allow_abbrev=False)
    parser.add_argument(*flags, action="append", default=[], dest="values")
    taken, rest = parser.parse_known_args(words)
    return taken.values, rest


def _last(words: list[str], flag: str) -> str | None:
    """Return the value that counts of a flag, if it is given."""
    values, _ = _take(words, flag)
    return values[-1] if values else None


def require_sound_configs(words: list[str], known: Collection[str]) -> None:
    """Refuse config files, among the words of a command, that cannot be read or hold settings that there are not.

    Raises:
        UserError: If a file is no YAML, or has a key at its top that is not in `known`.
    """
    for word in _take(words, "--config")[0]:
        path = Path(word)
        if word.startswith("{") or not path.is_file():  # what the checkpoint says; or what the parser complains of
            continue
        content = _read_strictly(path)
        for key, value in content.items():
            if key not in known:
                raise UserError(f"{path}: there is no setting {key!r}{suggest(str(key), known)}")
            if key in ("model", "data", "trainer") and not isinstance(value, dict | str):
                raise UserError(f"{path}: {key} must hold settings of its own, got {value!r}")


def _read_strictly(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a config: it is not text in UTF-8") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a config: it must hold settings by name, such as trainer, got {content!r}")
    return content


def _classes(config_files: list[str], flags: dict[str, str | None]) -> dict[str, str]:
    """Return the names of the model and data classes that the user asks for, as far as they can be seen."""
    classes = {}
    for file in config_files:
        content = _read_yaml(Path(file))
        for key in flags:
            section = content.get(key)
            if isinstance(section, dict) and "class_path" in section:
                classes[key] = str(section["class_path"])
    classes.update({key: value for key, value in flags.items() if value is not None})
    return {key: value.rpartition(".")[2] for key, value in classes.items()}


def _fits(run: Path, wanted: dict[str, str]) -> bool:
    """Whether a run has the wanted classes."""
    return _classes([str(run / "config.yaml")], dict.fromkeys(("model", "data"))).items() >= wanted.items()


def _read_yaml(path: Path) -> dict[str, Any]:
    """Return the content of a config file, empty where there is none: the parser complains better."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}
