"""From one checked tree of settings to the parsed settings of `fit`, `validate` and `test`; nothing is run here."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.callbacks import Checkpoints, Dashboard, Plots
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.config.class_settings import LINKED
from lightning_cnn.config.flags import read_command_line
from lightning_cnn.config.parser import (
    STRICT,
    ConstructorError,
    SettingsParser,
    explain,
    plain_settings,
    refusal,
)
from lightning_cnn.config.request import Request, read_request
from lightning_cnn.config.settings import Tree, merge
from lightning_cnn.data import ImageDataModule
from lightning_cnn.environment import is_requeued_by_slurm
from lightning_cnn.errors import UserError
from lightning_cnn.everyday import CHECKPOINT, DESCRIPTION, usage
from lightning_cnn.run import Run
from lightning_cnn.text import in_one_line
from lightning_cnn.training.distillation import Distillation
from lightning_cnn.training.options import OPTIONS, schema
from lightning_cnn.training.refusals import require_trainable
from lightning_cnn.training.resume import finds_batch_size, run_to_resume
from lightning_cnn.training.setup import complete
from lightning_cnn.training.trainer import Trainer
from lightning_cnn.training.trainer_values import require_valid


def settings_of(argv: Sequence[str], *others: Sequence[str]) -> dict[str, Any]:
    """Return all settings that a command line of `fit` gives, defaults included, as plain values; nothing is run.

    Args:
        argv: The command line.
        others: More command lines to check, with the same parser, because one takes a second to build.

    Raises:
        UserError: If `fit`, or a constructor of model, optimizer or data, does not accept one of the command lines.
    """
    requests = []
    for command, *arguments in (argv, *others):
        line = read_command_line(arguments)
        if line.help or line.class_help:
            raise UserError("a flag asks for help only; give it to `lightning-cnn fit`")
        requests.append(read_request(command, line, schema(command)))
    cli = SettingsCLI(requests[0])
    settings = cli.settings
    cli.require_trainable()
    for request in requests[1:]:
        cli.parse(request.settings)
        cli.require_trainable()
    return settings


#: The parser of each command that has been called in this process.
_PARSERS: dict[str, LightningArgumentParser] = {}


class SettingsCLI(LightningCLI):
    """LightningCLI without subcommands, which parses one tree of settings and does nothing more.

    Args:
        request: What is asked for.

    Attributes:
        checkpoint: The file to resume from, or to evaluate; for `fit`, `--resume auto` may find it.
        settings: All settings, defaults included, as plain values.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.command = request.command
        self.checkpoint = request.checkpoint
        self.settings: dict[str, Any] = {}
        super().__init__(
            ImageClassifier,
            ImageDataModule,
            trainer_class=Trainer,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,  # RunRecord does it
            load_from_checkpoint_support=False,  # checkpoints describe themselves
            auto_configure_optimizers=False,  # classifiers get theirs injected
            seed_everything_default=0,
            parser_class=SettingsParser,
            parser_kwargs={
                "prog": f"lightning-cnn {self.command}",
                "usage": usage(self.command),
                "description": DESCRIPTION[self.command],
                "epilog": "--print_config prints all settings that would be used, and exits.",
                "allow_abbrev": False,
                "parser_mode": STRICT,
                "print_config": None,  # `Request` has it
            },
            args=request.settings,
            run=False,
        )

    def setup_parser(
        self, add_subcommands: bool, main_kwargs: dict[str, Any], subparser_kwargs: dict[str, Any]
    ) -> None:
        """Build the parser, or take that of an earlier call from Python, since it takes a fifth of a second."""
        if self.command not in _PARSERS:
            super().setup_parser(add_subcommands, main_kwargs, subparser_kwargs)
            _PARSERS[self.command] = self.parser
        self.parser = _PARSERS[self.command]
        self.parser.callback_keys = ["distillation", "plots", "dashboard"]  # fewer with `barebones`

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add our groups of settings, and the options of the command."""
        parser.add_class_arguments(Checkpoints, "checkpoints")
        parser.add_lightning_class_args(Distillation, "distillation")
        parser.add_lightning_class_args(Plots, "plots")
        parser.add_lightning_class_args(Dashboard, "dashboard")  # after the plots, which it shows
        for name in LINKED:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")
        parser.add_argument("--ckpt_path", type=str, default=None, help=CHECKPOINT[self.command])
        for name, (kind, default, text) in OPTIONS[self.command].items():
            parser.add_argument(f"--{name}", type=kind, default=default, help=text)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the tree of settings; `fit` then finds the run to resume, if it is to be found.

        Raises:
            UserError: If a value has the wrong type or is out of its range.
        """
        self.parse(self.request.settings)
        if self.command == "fit" and not self.is_without_run:
            self._find_run_to_resume()

    @property
    def is_without_run(self) -> bool:
        """Whether `fit` only tries the training out, or measures its speed, and writes nothing."""
        trainer = self.settings["trainer"]
        return bool(trainer["fast_dev_run"] or trainer["barebones"])

    def parse(self, given: Tree) -> None:
        """Parse a tree of settings for the command; raises `UserError` as `parse_arguments` does."""
        tree = complete(given)
        require_valid(tree["trainer"])
        try:
            self.config = self.parser.parse_object(deepcopy(tree))  # which it changes
        except UserError as error:
            raise UserError(explain(str(error), tree, schema(self.command))) from error
        seed = self.config["seed_everything"]
        if not isinstance(seed, bool) and not 0 <= seed < 2**32:
            raise UserError(f"--seed_everything must be between 0 and {2**32 - 1}, got {seed}")
        self.settings = plain_settings(self.parser, self.config)
        del self.settings["ckpt_path"]

    def require_trainable(self) -> None:
        """Build model, optimizer and data, and refuse settings with which `fit` would not train.

        Raises:
            UserError: If a constructor refuses its arguments, or nothing would be trained.
        """
        parts = Namespace({name: self.config[name] for name in ("model", "data")})  # type: ignore[no-untyped-call]
        try:
            built = self.parser.instantiate(parts)
            require_trainable(self.config["trainer"], built["model"], built["data"], self.config["test"])
        except (ValueError, TypeError, RuntimeError, ConstructorError) as error:
            raise UserError(refusal(error, self.settings)) from error
        try:
            built["model"].optimizer(built["model"].parameters())
        except (ValueError, TypeError, RuntimeError) as error:
            raise UserError(f"--model.optimizer: {in_one_line(error)}") from error

    def _find_run_to_resume(self) -> None:
        """Find the run to resume, if `--resume auto` is given or SLURM has requeued this job."""
        asked = self.settings["resume"] is not None
        if asked and self.checkpoint is not None:
            raise UserError("--resume auto finds the run itself; leave out the checkpoint, or --resume")
        if self.checkpoint is not None or not (asked or is_requeued_by_slurm()):
            return
        root = Path(self.settings["trainer"]["default_root_dir"] or ".")
        self.checkpoint = run_to_resume(root, self.settings, this_job_only=not asked)
        if self.checkpoint is None:
            return
        rank_zero_info(f"Resumed: {Run.of_checkpoint(self.checkpoint).folder}")
        # The run keeps the precision that was chosen for it, and the batch size that was found.
        recorded, decided = checkpoints.read_description(self.checkpoint)["config"], {}
        if self.settings["trainer"]["precision"] == "auto":
            decided["trainer"] = {"precision": recorded["trainer"]["precision"]}
        if finds_batch_size(self.settings):
            decided["data"] = recorded["data"]
        if decided:
            self.parse(merge(self.request.settings, decided))

    def instantiate_classes(self) -> None:
        """Instantiate nothing."""
