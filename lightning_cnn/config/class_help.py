"""The help of a class that a setting takes, for `fit --model.help CNNClassifier`: its arguments, as flags."""

import argparse
import json
from inspect import Parameter, isfunction
from typing import Any

from lightning_cnn.config.class_settings import (
    BASES,
    LINKED,
    arguments,
    describe_type,
    find_class,
    flag_of,
    kind_of,
    names_class,
    required,
    resolved,
    suggest_class,
)
from lightning_cnn.config.flags import Flag
from lightning_cnn.config.schema import Schema
from lightning_cnn.errors import UserError


def class_help(command: str, asked: Flag, schema: Schema) -> str:
    """Return what a class does, and its arguments with their types and defaults.

    Args:
        command: The command, for example `fit`.
        asked: The setting that takes the class, and the name of the class.
        schema: The settings of the command.

    Raises:
        UserError: If there is no such setting, it takes no class, or there is no such class.
    """
    place = tuple(asked.name.split("."))
    if place == ("model", "metrics"):
        place = (*place, "NAME")  # which the user chooses
    _require_setting(command, place, asked, schema)
    cls, flag = find_class(place, asked.value), flag_of(place)
    passed_on, texts = resolved(cls)  # type: ignore[arg-type]  # mypy 2.4 takes no class for hashable
    known = {**(passed_on if isfunction(cls) else {}), **arguments(cls)}
    parser = argparse.ArgumentParser(
        usage=f"lightning-cnn {command} {flag} {asked.value} [{flag}.ARGUMENT VALUE ...]",
        description=" ".join((cls.__doc__ or "").strip().partition("\n\n")[0].split()).replace("%", "%%"),
        epilog="`--NAME.help CLASS` shows this for the class of a setting, and `--NAME.help` what it can be.",
        add_help=False,
    )
    group = parser.add_argument_group("arguments")
    for name in sorted(known.keys() - LINKED, key=[*required(cls), *known].index):  # the others follow from the data
        notes = ", ".join(filter(None, (_type_of((*place, name), known[name]), _default_of(known[name]))))
        text = f"{texts.get(name, '')} ({notes})".lstrip()
        group.add_argument(f"{flag}.{name}", metavar=name.upper(), help=text.replace("%", "%%"))
    return parser.format_help()


def _require_setting(command: str, place: tuple[str, ...], asked: Flag, schema: Schema) -> None:
    """Refuse a setting that takes no class, and what is not the name of one.

    Raises:
        UserError: If it is one of these.
    """
    flag, owner = f"--{asked.name}", schema.groups.get(place[0])
    if place[0] not in schema.names or (owner and not {*place[1:2]} <= {*arguments(owner)}):
        raise schema.no_such_option(asked.name)
    if kind_of(place) not in BASES:
        raise UserError(f"{flag}.help: {flag} takes no class; `lightning-cnn {command} --help_all` lists all options")
    if not asked.value:
        raise UserError(f"{flag}.help needs the name of a class{suggest_class(kind_of(place))}")
    if not names_class(place, asked.value):
        raise UserError(f"{flag}.help {asked.value}: this is no class, but a name that the Trainer knows")


def _type_of(place: tuple[str, ...], parameter: Parameter) -> str:
    if kind_of(place) in BASES:
        return "class"
    return "" if parameter.annotation in (Parameter.empty, Any) else describe_type(parameter.annotation)


def _default_of(parameter: Parameter) -> str:
    default = parameter.default
    if default is parameter.empty:
        return "required"
    shown = default if isinstance(default, str) else getattr(default, "__name__", json.dumps(default, default=str))
    return f"default: {shown or repr(shown)}"
