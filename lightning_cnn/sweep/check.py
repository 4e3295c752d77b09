"""``python -m lightning_cnn.sweep.check``: would `fit` accept these flags?

A process of its own, so that a sweep, which only waits for others, does without torch and Lightning. It reads a list of
commands, each a list of words, in JSON from stdin, and prints the settings that the first comes to, in JSON as well.
"""

import json
import os
import sys
from contextlib import ExitStack
from typing import Any

import yaml
from lightning.pytorch.cli import ArgsType, LightningArgumentParser

from lightning_cnn.config.parser import with_checkpoint
from lightning_cnn.errors import UserError
from lightning_cnn.training.cli import TrainCLI


class _Check(TrainCLI):
    """Parses commands and does nothing more; `settings` are those of the first."""

    settings: dict[str, Any]

    def __init__(self, commands: list[list[str]]) -> None:
        self.commands = commands
        super().__init__(commands[0], None, ExitStack())

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        for words in reversed(self.commands):
            super().parse_arguments(parser, words)
        self.settings = yaml.safe_load(self._parser("fit").dump(self.config["fit"], skip_unset=False))

    def instantiate_classes(self) -> None:
        """Nothing is built."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""


def check(commands: list[list[str]]) -> dict[str, Any]:
    """Return all settings of the first command, in plain types, if `fit` accepts all of them.

    Raises:
        UserError: If it does not.
    """
    try:
        return _Check([with_checkpoint(words)[0] for words in commands]).settings
    except SystemExit as left:
        raise UserError("a sweep trains, but one of its flags only prints; give that to `lightning-cnn fit`") from left


def main() -> int:
    """Answer the question on stdin; return the exit status."""
    try:
        settings = check(json.load(sys.stdin))
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    json.dump(settings, sys.stdout)
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # as `lightning-cnn` leaves: without clearing up what goes away
