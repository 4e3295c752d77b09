"""Completion of the command line: a script for a shell, which knows the options of all commands."""

import argparse
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import shtab

from lightning_cnn.errors import UserError
from lightning_cnn.everyday import EVERYDAY

#: How the help names values that are files or folders.
_PLACES = {"FILE": shtab.FILE, "CONFIG": shtab.FILE, "CHECKPOINT": shtab.FILE, "DIR": shtab.DIRECTORY}


def script(shell: str, commands: Mapping[str, str]) -> str:
    """Return the script for a shell.

    Args:
        shell: `bash`, or another that shtab knows, such as `zsh` and `fish`.
        commands: Each command, and what it does.

    Raises:
        UserError: If it is another shell.
    """
    if shell not in shtab.SUPPORTED_SHELLS:
        raise UserError(f"--print_shtab {shell}: must be one of {', '.join(shtab.SUPPORTED_SHELLS)}")
    root = argparse.ArgumentParser("lightning-cnn")
    root.add_argument("--version", help="Show the version.")
    root.add_argument("--print_shtab", choices=shtab.SUPPORTED_SHELLS, help="Print a script for completion.")
    parsers = root.add_subparsers()
    for command, summary in commands.items():
        parser = parsers.add_parser(command, help=summary, description=summary)
        known = import_module(f"lightning_cnn.commands.{command}").build_parser()
        for action in known._actions:
            _add(parser, action)
        names = {name for action in known._actions for name in action.option_strings}
        for name, (_, text) in EVERYDAY.get(command, {}).items():  # arguments of classes are not the parser's
            if f"--{name}" not in names:
                parser.add_argument(f"--{name}", help=text)
        if command in EVERYDAY:  # nor is the checkpoint, as an argument without a flag
            _complete(parser.add_argument("checkpoint", nargs="?"), shtab.FILE)
    written: str = shtab.complete(root, shell)
    return written


def _add(parser: argparse.ArgumentParser, like: argparse.Action) -> None:
    """Add an argument with the names and the help of another, and what its value may be."""
    if "--help" in like.option_strings:
        return
    values = str(like.metavar or like.dest)
    if like.option_strings:
        added = parser.add_argument(*like.option_strings, help=_help_of(like))
    else:
        added = parser.add_argument(like.dest, nargs="*", help=_help_of(like))
    if "|" in values and values.islower():
        added.choices = values.split("|")
    elif place := shtab.FILE if not like.option_strings else _PLACES.get(values):
        _complete(added, place)


def _complete(action: argparse.Action, place: Mapping[str, Any]) -> None:
    action.complete = place  # type: ignore[attr-defined]  # shtab reads it


def _help_of(action: argparse.Action) -> str:
    """Return the help with its values in place, and what is still a percent sign as argparse wants it."""
    return ((action.help or "") % vars(action)).replace("%", "%%")
