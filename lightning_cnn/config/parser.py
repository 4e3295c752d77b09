"""From words to settings: the order of defaults, checkpoint, config and flags, and what to say of a wrong word."""

import argparse
import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import set_loader, set_parsing_settings
from lightning.pytorch.cli import LightningArgumentParser

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.config import trust
from lightning_cnn.config import yaml as configs
from lightning_cnn.config.messages import explain
from lightning_cnn.errors import UserError, did_you_mean
from lightning_cnn.run import Run, find_runs, resolve_checkpoint

# Configs are files of this machine, and what runs commands or opens files of its own is no class of a run.
set_parsing_settings(config_read_mode_fsspec_enabled=False, import_path_denylist=[])


def _load_value(text: str) -> Any:
    """Read text of the command line as YAML, but `{a, b}` and `a:` as text, as jsonargparse does."""
    value = configs.load(text)
    if isinstance(value, dict) and value and all(item is None for item in value.values()):
        keys = {str(key) for key in value}
        if text.strip() == f"{next(iter(keys))}:" or keys == set(text.strip(" {}").replace(" ", "").split(",")):
            return text
    return value


set_loader("yaml", _load_value, (yaml.YAMLError,))
# Some defaults of Lightning's classes are enumerations of text; a config is written with the text.
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))
#: Settings for which the parser would read a file, if they are the name of one.
_READ = {*trust.SECTIONS, *trust.BASES}


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
        UserError: If the checkpoint is missing, where one is needed, cannot be read, or says what is not believed; or
            if a config is not sound.
    """
    command, *words = argv
    # Configs first, so that flags win wherever they stand.
    files, words = _take(words, "--config", "-c")
    first = [word for file in files for word in ("--config", file)]
    references, words = _take(words, "--ckpt_path")
    if not references:
        if command != "fit" and not {"-h", "--help"} & set(words):
            raise UserError(f"{command} needs --ckpt_path: a file, a run folder, `best` or `last`")
        return [command, *first, *words], None
    contents = [_content(file) for file in files]
    wanted = _classes(contents, {"model": _last(words, "--model"), "data": _last(words, "--data")})
    runs = [run for run in find_runs(_root(contents, words)) if _fits(run, wanted)]
    path = resolve_checkpoint(references[-1], runs, folder_means="last" if command == "fit" else "best")
    config: object = checkpoints.read_description(path).get("config")
    if command != "fit":
        config = _to_measure(config)
    named = {text for _, content in _all_contents(files, words) for text in _texts(content)}
    config = trust.believed(config, named)
    return [command, "--config", json.dumps(config, ensure_ascii=False), *first, *words, "--ckpt_path", str(path)], path


def _root(contents: list[dict[str, Any]], words: list[str]) -> Path:
    """Where the runs are: as a flag says, or else a config."""
    trainers = [content.get("trainer") for content in contents]
    configured = [trainer.get("default_root_dir") for trainer in trainers if isinstance(trainer, dict)]
    known = [*configured, _last(words, "--trainer.default_root_dir")]
    return Path(next((str(root) for root in reversed(known) if root), "logs"))


def _to_measure(config: object) -> object:
    """What matters of a config where a model is measured: of how it was trained, only the precision does."""
    if not isinstance(config, dict):
        return config
    trainer = config.get("trainer")
    precision = trainer.get("precision") if isinstance(trainer, dict) else None
    return {**{key: config[key] for key in ("model", "data") if key in config}, "trainer": {"precision": precision}}


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
    """Refuse configs and values, among the words of a command, that are not sound or set what there is not.

    Raises:
        UserError: If a file is no sound config, has a key at its top that is not in `known`, or names another config;
            or if a flag's value holds what no config may hold.
    """
    files, words = _take(words, "--config", "-c")
    for file in files:
        for key, value in _content(file).items():
            if key not in known or key == "config":
                raise UserError(f"{file}: there is no setting {configs.describe(key)}{did_you_mean(str(key), known)}")
            if key in trust.SECTIONS[1:] and not isinstance(value, dict | str):
                raise UserError(f"{file}: {key} must hold settings of its own, got {configs.describe(value)}")
    for flag, value in _values(words):
        _require_sound_value(flag, value)
    for where, content in _all_contents(files, words):
        _require_classes(content, where)


def _require_sound_value(flag: str, value: str) -> None:
    try:
        configs.load(value)
    except configs.InvalidConfigError as error:
        if set(value) & set("{[:") or value[:1] in set("+-.0123456789"):  # otherwise it is meant as text
            raise UserError(f"{flag} {configs.describe(value)}: {error}") from error
    except yaml.YAMLError:  # text
        pass


def _require_classes(content: object, where: str) -> None:
    """Refuse settings of classes that have not the form of such, and names that are none."""
    if isinstance(content, list):
        for value in content:
            _require_classes(value, where)
    if isinstance(content, dict):
        for key, value in content.items():
            if key == "class_path" and not isinstance(value, str):
                raise UserError(f"{where}: a class must be given by its name, got {configs.describe(value)}")
            if key == "init_args" and not isinstance(value, dict):
                raise UserError(f"{where}: init_args must hold settings by name, got {configs.describe(value)}")
            if isinstance(key, str) and (not key or key.startswith("__")):
                raise UserError(f"{where}: there is no setting {configs.describe(key)}")
            _require_classes(value, where)


def _content(config: str) -> dict[str, Any]:
    """The settings that a `--config` stands for: a file, or the settings themselves."""
    if not configs.is_readable(Path(config)) and (":" in config or config.startswith("{")):
        return configs.parse_config(config, f"--config {configs.describe(config)}")
    return configs.read_config(Path(config))


def _values(words: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each word that is a flag with the value that it could have: its own, or the next word."""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word.startswith("-"):
            flag, given, value = word.partition("=")
            yield flag, value if given else following


def _flags(words: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each flag with its last word as a setting, that has what its value says in YAML."""
    for flag, value in _values(words):
        content: object = value
        with suppress(yaml.YAMLError):  # any text may be the value of a flag
            content = configs.load(value)
        yield flag, {flag.strip("-+").rpartition(".")[2]: content}


def _all_contents(files: list[str], words: list[str]) -> Iterator[tuple[str, object]]:
    """Yield what all configs and flags say, and the files that they name where settings belong; with their names."""
    contents: list[tuple[str, object, Path]] = [(file, _content(file), Path(file).parent) for file in files]
    contents += [(flag, content, Path()) for flag, content in _flags(words)]
    seen: set[Path] = set()
    while contents:
        where, content, folder = contents.pop(0)
        yield where, content
        for path in _files_in(content, "", folder):
            if path not in seen:
                seen.add(path)
                contents.append((str(path), configs.read_yaml(path), path.parent))


def _files_in(content: object, setting: str, folder: Path) -> Iterator[Path]:
    """Yield the files that the parser would read for these settings."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _files_in(value, str(key), folder)
    elif isinstance(content, list):
        for value in content:
            yield from _files_in(value, setting, folder)
    elif isinstance(content, str) and setting in _READ:
        path = folder / content
        if configs.is_readable(path):
            yield path


def _texts(content: object) -> Iterator[str]:
    """Yield all text in settings."""
    if isinstance(content, dict):
        for value in content.values():
            yield from _texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value)
    elif isinstance(content, str):
        yield content


def _classes(contents: list[dict[str, Any]], flags: dict[str, str | None]) -> dict[str, str]:
    """Return the names of the model and data classes that the user asks for, as far as they can be seen."""
    classes = {}
    for content in contents:
        for key in flags:
            section = content.get(key)
            if isinstance(section, dict) and "class_path" in section:
                classes[key] = str(section["class_path"])
    classes.update({k: value for k, value in flags.items() if value and not configs.is_readable(Path(value))})
    return {key: value.rpartition(".")[2] for key, value in classes.items()}


def _fits(run: Run, wanted: dict[str, str]) -> bool:
    """Whether a run has the wanted classes."""
    if not wanted:
        return True
    try:
        content = run.read_config()
    except UserError:  # a run that cannot be understood is not meant
        return False
    return _classes([content], dict.fromkeys(("model", "data"))).items() >= wanted.items()
