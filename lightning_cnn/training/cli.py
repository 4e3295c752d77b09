"""`fit`, `validate` and `test`: LightningCLI, given one checked tree of settings, and what a run needs around it."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.callbacks import Checkpoints, Dashboard, Plots, RunRecord, TestResults
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.config.flags import read_command_line
from lightning_cnn.config.messages import explain, in_one_line, root_cause
from lightning_cnn.config.parser import SettingsParser
from lightning_cnn.config.request import Request, read_request
from lightning_cnn.config.settings import merge
from lightning_cnn.config.yaml import dump
from lightning_cnn.data import ImageDataModule
from lightning_cnn.environment import is_rank_zero, is_requeued_by_slurm
from lightning_cnn.errors import DivergenceError, Interrupted, UserError
from lightning_cnn.run import Run
from lightning_cnn.startup import filter_warnings, tune_process
from lightning_cnn.training import setup
from lightning_cnn.training.distributed import PeerFailureError, PeerProcesses
from lightning_cnn.training.failure_store import Failure
from lightning_cnn.training.options import CKPT_PATH, OPTIONS, schema
from lightning_cnn.training.rank_state import RankSynchronisation
from lightning_cnn.training.refusals import require_trainable
from lightning_cnn.training.resume import (
    RUN_OPTIONS,
    require_resumable,
    resume_hint,
    run_to_resume,
    summary,
    user_classes,
)
from lightning_cnn.training.trainer import Trainer, is_restoring


def main(argv: Sequence[str]) -> int:
    """Run `fit`, `validate` or `test` with the arguments that follow it.

    Raises:
        UserError: If an argument is wrong, or the settings cannot be used together.
    """
    filter_warnings()
    tune_process()
    command, *arguments = argv
    if read_command_line(arguments).asks_for_help:
        SettingsCLI(Request(command, {}), help_arguments=arguments)  # which prints it, and leaves
    peers = PeerProcesses()
    try:
        with peers.supervise(), ExitStack() as stack:
            request = read_request(command, arguments, schema(command))
            if request.prints_config:
                print(dump(SettingsCLI(request).settings), end="")
            else:
                TrainingCLI(request, stack, peers).run()
    except PeerFailureError as failed:
        return peers.leave(failed.failure)
    except MisconfigurationException as error:  # Lightning's word for settings that cannot go together
        raise UserError(in_one_line(error)) from error
    return 0


def settings_of(argv: Sequence[str]) -> dict[str, Any]:
    """Return all settings that a command line gives, defaults included, as plain values; nothing is run.

    Raises:
        UserError: If the command does not accept them.
    """
    command, *arguments = argv
    if read_command_line(arguments).asks_for_help:
        raise UserError("a flag asks for help only; give it to `lightning-cnn fit`")
    return SettingsCLI(read_request(command, arguments, schema(command))).settings


class SettingsCLI(LightningCLI):
    """LightningCLI without subcommands, which parses one tree of settings and does nothing more.

    Args:
        request: What is asked for.
        help_arguments: Arguments that ask for help, to be parsed in place of the tree.

    Attributes:
        checkpoint: The file to resume from, or to evaluate; for `fit`, `--resume auto` may find it.
        settings: All settings, defaults included, as plain values.
    """

    def __init__(self, request: Request, help_arguments: Sequence[str] = ()) -> None:
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
                "usage": f"lightning-cnn {self.command} [CHECKPOINT] [--config FILE] [--NAME VALUE ...]",
                "allow_abbrev": False,
            },
            args=list(help_arguments) or request.settings,
            run=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add our groups of settings, and the options of the command."""
        parser.add_class_arguments(Checkpoints, "checkpoints")
        parser.add_lightning_class_args(Plots, "plots")
        parser.add_lightning_class_args(Dashboard, "dashboard")  # after the plots, which it shows
        parser.add_argument("--ckpt_path", type=str, default=None, help=CKPT_PATH[self.command])
        for name, (kind, default, text) in OPTIONS[self.command].items():
            parser.add_argument(f"--{name}", type=kind, default=default, help=text)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the tree of settings; with `--resume auto`, find the run to resume.

        Raises:
            UserError: If a value has the wrong type or is out of its range.
        """
        if isinstance(args, list):
            parser.parse_args(args)
        self._parse(self._with_launcher_and_determinism(self.request.settings))
        if self.command == "fit" and not self.config["trainer"]["fast_dev_run"]:
            self._find_run_to_resume()

    def _parse(self, tree: dict[str, Any]) -> None:
        try:
            self.config = self.parser.parse_object(deepcopy(tree))  # which it changes
        except UserError as error:
            raise UserError(explain(str(error), tree, schema(self.command))) from error
        seed = self.config["seed_everything"]
        if not isinstance(seed, bool) and not 0 <= seed < 2**32:
            raise UserError(f"--seed_everything must be between 0 and {2**32 - 1}, got {seed}")
        settings = json.loads(self.parser.dump(self.config, skip_unset=False, format="json"))
        self.settings = {name: value for name, value in settings.items() if name != "ckpt_path"}

    @staticmethod
    def _with_launcher_and_determinism(tree: dict[str, Any]) -> dict[str, Any]:
        trainer = setup.with_launcher(tree.get("trainer", {}))
        if tree.get("deterministic"):
            trainer = setup.with_determinism(trainer)
        return {**tree, "trainer": trainer}

    def _find_run_to_resume(self) -> None:
        """Find the run to resume, if `--resume auto` is given or SLURM has requeued this job."""
        asked = self.settings["resume"] is not None
        if self.checkpoint is not None:
            if asked:
                raise UserError("--resume auto finds the run itself; leave out the checkpoint, or --resume")
            return
        if not asked and not is_requeued_by_slurm():
            return
        root = Path(self.settings["trainer"]["default_root_dir"] or ".")
        self.checkpoint = run_to_resume(root, self.settings, this_job_only=not asked)
        if self.checkpoint is None:
            return
        rank_zero_info(f"Resumed: {Run.of_checkpoint(self.checkpoint).folder}")
        if self.settings["trainer"]["precision"] == "auto":  # the run keeps the precision that was chosen for it
            precision = checkpoints.read_description(self.checkpoint)["config"]["trainer"]["precision"]
            tree = merge(self.request.settings, {"trainer": {"precision": precision}})
            self._parse(self._with_launcher_and_determinism(tree))

    def instantiate_classes(self) -> None:
        """Instantiate nothing."""


class TrainingCLI(SettingsCLI):
    """LightningCLI that instantiates model, data and trainer, and then runs its command.

    Args:
        request: What is asked for.
        stack: Keeps the lock of the run folder.
        peers: All processes of the run.
    """

    def __init__(self, request: Request, stack: ExitStack, peers: PeerProcesses) -> None:
        self.stack = stack
        self.peers = peers
        self.new_run: Run | None = None
        self.first_step: int | None = None
        super().__init__(request)

    def instantiate_classes(self) -> None:
        """Build model, data and trainer.

        Raises:
            UserError: If one of them refuses its settings.
        """
        try:
            LightningCLI.instantiate_classes(self)
        except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
            setup.remove_empty_run(self.new_run)
            raise UserError(in_one_line(root_cause(error))) from error
        if self.command == "fit":
            self.peers.on_peer_failure = self._on_peer_failure
        self.peers.join(self.trainer)

    def instantiate_trainer(self, **kwargs: Any) -> LightningTrainer:
        """Build the trainer with the loggers, the callbacks and the folder of this run."""
        options = self.config_init["trainer"]
        callbacks = setup.add_progress(setup.as_list(options["callbacks"]), options["enable_progress_bar"])
        kwargs["enable_progress_bar"] = any(isinstance(callback, ProgressBar) for callback in callbacks)
        if self.command != "fit" or options["fast_dev_run"]:
            if self.command == "test":
                assert self.checkpoint is not None
                folder = Run.of_checkpoint(self.checkpoint).folder
                self.results = TestResults(folder, self.checkpoint, self.settings["overwrite"])
                callbacks.append(self.results)
            return super().instantiate_trainer(callbacks=callbacks, logger=False, enable_checkpointing=False, **kwargs)
        require_trainable(options, self.model, self.datamodule, self.settings["test"])
        precision = setup.choose_precision(
            options["precision"],
            options["accelerator"],
            bool(options["plugins"]),
            self.model,
            self.datamodule.batch_size,
        )
        folder = self._open_run(Path(options["default_root_dir"] or "."))
        loggers = setup.make_loggers(options["logger"], Run(folder), self.first_step)
        callbacks += [RankSynchronisation(self.first_step), RunRecord(folder, self._record(folder, precision))]
        callbacks += setup.learning_rate_monitors(loggers)
        if options["enable_checkpointing"] is not False:
            callbacks.append(self.config_init["checkpoints"])
        kwargs["enable_checkpointing"] = any(isinstance(callback, Checkpoint) for callback in callbacks)
        return super().instantiate_trainer(
            callbacks=callbacks, logger=loggers, default_root_dir=folder, precision=precision, **kwargs
        )

    def _open_run(self, root: Path) -> Path:
        """Return the folder of the run that is resumed, or a new one; it is locked."""
        if self.checkpoint is not None:
            content = checkpoints.read(self.checkpoint)
            require_resumable(self.checkpoint, content, self.settings, self.settings["overwrite"])
            self.first_step = content["global_step"]
        if not is_rank_zero():  # which broadcasts its result
            return root
        run = None if self.checkpoint is None else Run.of_checkpoint(self.checkpoint)
        if run is None or self.checkpoint is None or self.checkpoint.parent != run.checkpoints_folder:
            run = self.new_run = setup.create_run(root, self.model, self.datamodule)
        self.stack.enter_context(run.lock())
        return run.folder

    def _record(self, folder: Path, precision: str | None) -> dict[str, Any]:
        """Return the settings that the run records: those given, and what was decided."""
        root = str(folder.parent.parent)
        decided = {"default_root_dir": root} | ({} if precision is None else {"precision": precision})
        record = {name: value for name, value in self.settings.items() if name not in RUN_OPTIONS}
        return {**record, "trainer": {**self.settings["trainer"], **decided}}

    def run(self) -> None:
        """Run the command."""
        {"fit": self._fit, "validate": self._validate, "test": self._test}[self.command]()

    def _validate(self) -> None:
        self.trainer.validate(
            self.model, datamodule=self.datamodule, ckpt_path=self.checkpoint, verbose=self.settings["verbose"],
            weights_only=True,
        )  # fmt: skip

    def _test(self) -> None:
        self.trainer.test(
            self.model, datamodule=self.datamodule, ckpt_path=self.checkpoint, verbose=self.settings["verbose"],
            weights_only=True,
        )  # fmt: skip
        self._print_results()

    def _print_results(self) -> None:
        if self.trainer.is_global_zero:
            print(self.results.summary)

    def _fit(self) -> None:
        """Train, and test the best weights if that is asked for."""
        self._train()
        if self.settings["trainer"]["fast_dev_run"]:
            return
        if self.trainer.is_global_zero:
            run = Run(Path(self.trainer.default_root_dir))
            is_finished = self.trainer.global_step == self.first_step
            print(summary(run, user_classes(self.model, self.datamodule), is_finished, self.settings["test"]))
        if self.settings["test"]:
            self._test_best()

    def _train(self) -> None:
        try:
            with self.peers.guard():
                self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=self.checkpoint, weights_only=True)
        except (DivergenceError, PeerFailureError):  # the metrics until then may be worth a look
            raise
        except (UserError, MisconfigurationException):
            setup.remove_empty_run(self.new_run)
            raise
        except Interrupted as interrupted:
            setup.remove_empty_run(self.new_run)
            raise Interrupted(
                interrupted.received, self._resume_hint(), already_reported=not self.trainer.is_global_zero
            ) from interrupted
        except ModuleNotFoundError as error:  # a callback or logger that needs more than is installed
            setup.remove_empty_run(self.new_run)
            raise UserError(in_one_line(error)) from error
        except OSError:  # of the disk
            raise
        except Exception as error:
            if is_restoring(self.trainer):
                raise UserError(
                    f"{self.checkpoint}: its training state does not fit this run ({error!r}); train a new run"
                ) from error
            if "Early stopping conditioned on metric" not in str(error):
                raise
            raise UserError(in_one_line(error)) from error

    def _on_peer_failure(self, failure: Failure) -> str:
        """Clean up after a peer process has failed, and return how to resume if it has died."""
        if failure.status != 1:  # otherwise, the metrics until then are worth a look
            setup.remove_empty_run(self.new_run)
        return self._resume_hint() if failure.was_killed else ""

    def _resume_hint(self) -> str:
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]  # set from outside
        folders = (callback.folder for callback in callbacks if isinstance(callback, RunRecord))  # in all processes
        run = Run(next(folders, None) or Path(self.trainer.default_root_dir))
        flags = user_classes(self.model, self.datamodule) + (" --test true" if self.settings["test"] else "")
        return resume_hint(run, self.first_step, flags)

    def _test_best(self) -> None:
        """Test the best weights of the training that has just ended."""
        run = Run(Path(self.trainer.strategy.broadcast(str(self.trainer.default_root_dir))))  # rank 0 knows it
        best = run.checkpoint("best")
        if not best.is_file():
            raise UserError(f"--test true needs the best weights, but training has not saved {best}")
        self.results = TestResults(run.folder, best, overwrite=True)  # those of the run itself, from before it resumed
        self.trainer.callbacks.append(self.results)  # type: ignore[attr-defined]
        self.trainer.loggers = []  # as in `test`: the metrics belong to the weights, not to the last step
        self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best, weights_only=True)
        self._print_results()
