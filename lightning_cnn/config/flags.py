"""The command line of `fit`, `validate` and `test`: read once, into flags and the values that they give.

`keywords` makes the same of the arguments of a call in Python.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_cnn.errors import UserError, as_file
from lightning_cnn.everyday import HELP_ALL

#: Flags that ask for help.
_HELP = ("-h", "--help", HELP_ALL)
#: Flags that mean `true` without a value.
SWITCHES = ("--test", "--overwrite", "--deterministic", "--verbose", "--print_config")

#: What may follow them, in any case; anything else is a checkpoint.
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True)
class Flag:
    """A setting that was given on the command line, or in Python.

    Args:
        name: The setting, for example `trainer.max_epochs`.
        value: Its value, as it was given; None if there is none.
        appends: Whether it was given as `--name+=value`, to add to a list.
        is_parsed: Whether the value was given in Python, of any plain type, and is not to be parsed.
    """

    name: str
    value: Any
    appends: bool = False
    is_parsed: bool = False

    def __str__(self) -> str:
        return f"--{self.name}{'+' if self.appends else ''} {self.value or ''}".rstrip()


@dataclass
class CommandLine:
    """What a command line says.

    Attributes:
        configs: The files, or YAML texts, of `--config`, in their order.
        checkpoint: What `--ckpt_path`, or the argument without a flag, refers to; None if neither was given.
        more_checkpoints: Further ones, where several are allowed.
        flags: All other settings, in their order.
        help: Whether the help of the command is asked for.
        class_help: The setting, and the class whose help is asked for, as in `--model.help MLPClassifier`.
    """

    configs: list[str] = field(default_factory=list)
    checkpoint: str | None = None
    more_checkpoints: list[str] = field(default_factory=list)
    flags: list[Flag] = field(default_factory=list)
    help: bool = False
    class_help: Flag | None = None

    def value(self, name: str) -> Any:
        """Return the last value that was given for a setting, if any."""
        return next((flag.value for flag in reversed(self.flags) if flag.name == name), None)

    @property
    def prints_config(self) -> bool:
        """Whether the settings are to be printed; `--print_config skip_null` is LightningCLI's."""
        return str(self.value("print_config") or "false").lower() not in _FALSE


def read_command_line(arguments: Sequence[str], several: bool = False) -> CommandLine:
    """Read the arguments after the command.

    Args:
        arguments: Everything after the command.
        several: Whether more than one checkpoint is allowed.

    Raises:
        UserError: If a file has no name, or there is a checkpoint too many.

    Example:
        >>> line = read_command_line(["best", "--trainer.max_epochs=3"])
        >>> line.checkpoint, line.value("trainer.max_epochs")
        ('best', '3')
    """
    line = CommandLine()
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument in _HELP:
            line.help = True
            continue
        if not argument.startswith("-"):
            if Path(argument).suffix in (".yaml", ".yml"):
                raise UserError(f"{argument} looks like a config; give it with --config {argument}")
            _take_checkpoint(line, argument, several)
            continue
        name, given, value = argument.partition("=")
        _take_flag(line, name, value if given else _value_of(name, rest))
    return line


def _value_of(name: str, rest: list[str]) -> str | None:
    """Take the value of a flag from the arguments that follow it; None if it has none."""
    if name in SWITCHES and not (rest and rest[0].lower() in _TRUE + _FALSE):
        return "true"
    return rest.pop(0) if rest and not rest[0].startswith("--") else None


def _take_flag(line: CommandLine, name: str, value: str | None) -> None:
    if value is None and name in ("-c", "--config", "--ckpt_path"):
        raise UserError(f"{name} needs a value: {name} FILE")
    if name in ("-c", "--config"):
        line.configs.append(str(value))
    elif name == "--ckpt_path":
        _take_checkpoint(line, str(value))
    elif name.endswith(".help"):
        line.class_help = Flag(name.lstrip("-").removesuffix(".help"), value)
    elif not name.startswith("--"):
        raise UserError(f"there is no option {name}{as_file(name) or '; settings are given as --name VALUE'}")
    else:
        line.flags.append(Flag(name.lstrip("-").removesuffix("+"), value, appends=name.endswith("+")))


def _take_checkpoint(line: CommandLine, argument: str, several: bool = False) -> None:
    if line.checkpoint is not None and several:
        line.more_checkpoints.append(argument)
        return
    if line.checkpoint is not None:
        raise UserError(
            f"{argument!r} is one argument too many: there is already the checkpoint {line.checkpoint!r}; "
            "settings are given as --name VALUE"
        )
    line.checkpoint = argument
