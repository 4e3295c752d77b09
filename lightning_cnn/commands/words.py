"""What the commands with few arguments share: a parser whose errors are one line, and choices with suggestions."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from lightning_cnn.cli import suggest
from lightning_cnn.data.sources import default_data_dir
from lightning_cnn.errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all errors of the command line."""

    def error(self, message: str) -> NoReturn:
        """Raise the message as `UserError`."""
        raise UserError(f"{message} (see `{self.prog} --help`)")


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add `--data_dir`; its second name is that of `lightning-cnn fit`, which messages mention."""
    parser.add_argument(
        *("--data_dir", "--data.data_dir"),
        type=Path,
        default=default_data_dir(),
        metavar="DIR",
        help="the folder that holds the datasets (default: $LIGHTNING_CNN_DATA_DIR, or else data; now %(default)s)",
    )


def one_of(choices: Iterable[str], value: str, what: str) -> str:
    """Return the value if it is one of the choices.

    Raises:
        UserError: If it is not; the message names the choice that was probably meant.
    """
    choices = list(choices)
    if value in choices:
        return value
    article = "an" if what[0] in "aeiou" else "a"
    raise UserError(f"{value!r} is not {article} {what}{suggest(value, choices)} (choose from {', '.join(choices)})")
