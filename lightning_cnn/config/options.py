"""What the commands without a config share: a parser with one-line errors, common options, and checks of files."""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from lightning_cnn.data.sources import default_data_dir
from lightning_cnn.errors import UserError, as_file, did_you_mean, reason
from lightning_cnn.files import local_path

_BOOLEANS = {"true": True, "false": False}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all errors of the command line.

    Args:
        prog: How the command is called.
        description: What it does; if it has several lines, they are kept as they are, and so are those of the epilog.
        epilog: What follows the options, such as examples.
        usage: The usage, where the generated one would be too long.
    """

    def __init__(self, prog: str, description: str, epilog: str | None = None, usage: str | None = None) -> None:
        raw = "\n" in description
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter if raw else argparse.HelpFormatter,
            allow_abbrev=False,
        )
        self._switches: set[str] = set()

    def add_switch(self, *names: str, help: str) -> None:  # noqa: A002  # argparse's name
        """Add an option that is false by default: `--name`, `--name true` and `--name false` are accepted."""

        def read(value: str) -> bool:
            return _BOOLEANS[one_of(_BOOLEANS, value, f"value of {names[0]}")]

        self.add_argument(*names, type=read, default=False, metavar="true|false", help=f"{help} (default: false)")
        self._switches |= {*names}

    def error(self, message: str) -> NoReturn:
        """Raise the message as `UserError`."""
        raise UserError(f"{message} (see `{self.prog} --help`)")

    def parse(self, argv: list[str]) -> argparse.Namespace:
        """Parse arguments in any order.

        Raises:
            UserError: If one is wrong; the message about an unknown option suggests the closest one.
        """
        # A switch takes no other argument than true or false, so that a file may follow it.
        argv = [
            f"{argument}=true" if argument in self._switches and following not in _BOOLEANS else argument
            for argument, following in pairwise([*argv, ""])
        ]
        arguments, unknown = self.parse_known_intermixed_args(argv)
        if unknown and not unknown[0].startswith("-"):
            self.error(f"unexpected argument {unknown[0]!r}")
        if unknown:
            if hint := as_file(unknown[0]):
                self.error(f"{unknown[0]!r} is not an option{hint}")
            options = [option for action in self._actions for option in action.option_strings if "." not in option]
            one_of([option for option in options if option != "-h"], unknown[0].partition("=")[0], "option")
        return arguments


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add `--data_dir`; its second name is that of `lightning-cnn fit`, which messages mention."""
    parser.add_argument(
        *("--data_dir", "--data.data_dir"),
        type=local,
        default=default_data_dir(),
        metavar="DIR",
        help="the folder that holds the datasets (default: $LIGHTNING_CNN_DATA_DIR, or else data; now %(default)s)",
    )


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the checkpoint as a positional argument and as `--ckpt_path`; `checkpoint_argument` returns it."""
    parser.add_argument(
        "checkpoint",
        nargs="?",
        metavar="CHECKPOINT",
        help="a checkpoint file, a run folder (for its best checkpoint), best, last or previous of the newest run in "
        "logs, or weights of this package, such as mnist",
    )
    parser.add_argument("--ckpt_path", metavar="CHECKPOINT", help="the same, in place of the positional argument")


def checkpoint_argument(parser: Parser, arguments: argparse.Namespace) -> str:
    """Return the checkpoint, given as a positional argument or as `--ckpt_path`.

    Raises:
        UserError: If it is missing or given twice.
    """
    given = [value for value in (arguments.checkpoint, arguments.ckpt_path) if value is not None]
    if len(given) == 2:
        parser.error(f"the checkpoint is given twice, as {given[0]} and as --ckpt_path {given[1]}; give it once")
    if not given:
        parser.error("the following arguments are required: CHECKPOINT (or --ckpt_path)")
    checkpoint: str = given[0]
    return checkpoint


def one_of(choices: Iterable[str], value: str, what: str) -> str:
    """Return the value if it is one of the choices.

    Raises:
        UserError: If it is not; the message suggests the closest choice.
    """
    choices = list(choices)
    if value in choices:
        return value
    article = "an" if what[0] in "aeiou" else "a"
    raise UserError(
        f"{value!r} is not {article} {what} (choose from {', '.join(choices)}){did_you_mean(value, choices)}"
    )


def local(text: str) -> Path:
    """The `type` of arguments that are files or folders on this machine."""
    try:
        return local_path(text, "")
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error).strip()) from error


def integer(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return a `type` of arguments for whole numbers in a range, 0 or more."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < low or (high is not None and int(text) > high):
            limits = f"of at least {low}" if high is None else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"must be a whole number {limits}, got {text!r}")
        return int(text)

    return read


positive = integer(1)


def add_overwrite(parser: Parser) -> None:
    """Add `--overwrite`, for `require_new`."""
    parser.add_switch("--overwrite", help="whether to replace existing files")


def require_writable(option: str, path: Path, *suffixes: str) -> None:
    """Refuse a file that cannot be written, before the work rather than after it.

    Raises:
        UserError: If its name ends in none of the suffixes, where there are some, if it is a folder, a device, a
            pipe or a link that leads nowhere, or if it cannot be created.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f"{option} {path}: the name must end in {' or '.join(suffixes)}")
    try:
        if path.is_dir():
            raise UserError(f"{option} {path} is a folder; name a file in it")
        if path.exists() and not path.is_file():
            raise UserError(f"{option} {path} is a device or a pipe; name a file")
        if path.is_symlink() and not path.exists():
            raise UserError(f"{option} {path} is a link that leads nowhere; name a file")
        place = Path(os.path.realpath(path))
        with tempfile.NamedTemporaryFile(dir=place.parent, prefix=f".{place.name}.", suffix=".part"):
            pass
    except OSError as error:
        raise UserError(
            f"{option} {path} cannot be written ({reason(error)}); name a file in a folder of yours"
        ) from error


def require_new(option: str, path: Path, overwrite: bool) -> None:
    """Refuse a file that exists, unless it may be replaced: its content may be irreplaceable.

    Raises:
        UserError: If it exists, and `overwrite` is false.
    """
    if path.exists() and not overwrite:
        raise UserError(f"{option} {path} exists; add --overwrite to replace it, or name another")
