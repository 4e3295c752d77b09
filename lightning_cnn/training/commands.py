"""`fit`, `validate` and `test`, from their arguments to the end of the run: on the command line and in Python."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser

from lightning_cnn.config.class_help import class_help
from lightning_cnn.config.flags import CommandLine, Flag, read_command_line
from lightning_cnn.config.request import Request, default_settings, read_request
from lightning_cnn.config.settings import Tree
from lightning_cnn.config.yaml import dump
from lightning_cnn.errors import UserError
from lightning_cnn.startup import filter_warnings, tune_process
from lightning_cnn.text import in_one_line
from lightning_cnn.training.cli import TrainingCLI
from lightning_cnn.training.distributed import PeerFailureError, PeerProcesses
from lightning_cnn.training.ensemble import MemberCLI, require_agreement, require_different, write
from lightning_cnn.training.options import schema
from lightning_cnn.training.parsing import SettingsCLI
from lightning_cnn.training.refusals import naming_flags


def main(argv: Sequence[str]) -> int:
    """Run `fit`, `validate` or `test` with the arguments that follow it.

    Raises:
        UserError: If an argument is wrong, or the settings cannot be used together.
    """
    command, *arguments = argv
    line = read_command_line(arguments, several=command == "test")
    if line.class_help:
        filter_warnings()
        print(class_help(command, line.class_help, schema(command)), end="")
        return 0
    if line.help:
        parser_of(command).print_help()
        return 0
    peers = PeerProcesses()
    try:
        if line.more_checkpoints:
            _test_ensemble(line)
        else:
            run(command, line, peers)
    except PeerFailureError as failed:
        return peers.leave(failed.failure)
    return 0


def _test_ensemble(line: CommandLine) -> None:
    """Test several checkpoints, and the mean of their probabilities."""
    off = ("plots.enabled", "dashboard.enabled", "trainer.logger", "verbose")  # nothing is written beside a checkpoint
    flags = [*line.flags, *(Flag(name, "false") for name in off)]
    checkpoints = (line.checkpoint, *line.more_checkpoints)
    lines = [replace(line, checkpoint=one, more_checkpoints=[], flags=flags) for one in checkpoints]
    filter_warnings()
    require_different(read_request("test", one, schema("test")) for one in lines)
    members: list[MemberCLI] = []
    for one in lines:
        member = run("test", one, PeerProcesses(), MemberCLI)
        if not isinstance(member, MemberCLI):  # only settings were to be printed
            return
        for before in members:
            require_agreement(before.results, member.results)
        print(member.results.summary, flush=True)
        members.append(member)
    print(write(members))


def parser_of(command: str) -> LightningArgumentParser:
    """Return the parser of `fit`, `validate` or `test`, with all options and their defaults, for the help."""
    required = {"model": "lightning_cnn.classifiers.CNNClassifier", "data": "lightning_cnn.data.MNISTDataModule"}
    settings: Tree = {name: {"class_path": path} for name, path in required.items()}
    parser = SettingsCLI(Request(command, {"seed_everything": False, **settings})).parser
    trainer = default_settings(schema(command))["trainer"]
    parser.set_defaults({f"trainer.{name}": value for name, value in trainer.items()})
    return parser


def run(
    command: str, line: CommandLine, peers: PeerProcesses, kind: type[TrainingCLI] = TrainingCLI
) -> TrainingCLI | None:
    """Run `fit`, `validate` or `test`.

    Args:
        command: Which of them.
        line: The command line, or what is given in Python in its place.
        peers: All processes of the run.
        kind: What is to run it.

    Returns:
        What has run it; None if only settings were to be printed.

    Raises:
        UserError: If an argument is wrong, or the settings cannot be used together.
        PeerFailureError: If another process of the run has failed.
    """
    filter_warnings()
    tune_process()
    trainer: Tree = {}
    try:
        with ExitStack() as stack, peers.supervise():
            request = read_request(command, line, schema(command))
            trainer = request.settings["trainer"]
            if request.prints_config:
                print(dump(SettingsCLI(request).settings), end="")
                return None
            cli = kind(request, stack, peers)
            cli.run()
            return cli
    # Settings cannot be used together, or need a package that is not installed.
    except (MisconfigurationException, ModuleNotFoundError) as error:
        raise UserError(naming_flags(in_one_line(error), trainer)) from error
