"""`fit`, `validate` and `test`: LightningCLI with run folders, and with checkpoints that are enough by themselves."""

import shutil
from contextlib import ExitStack, suppress
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import torch
import yaml
from jsonargparse import Namespace
from jsonargparse.typing import register_type
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import Checkpoint, LearningRateMonitor, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_info

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn import environment
from lightning_cnn.callbacks import Checkpoints, Dashboard, Plots, Progress, RunFolder, TestResults
from lightning_cnn.callbacks.metrics_csv import MetricsCSV
from lightning_cnn.callbacks.tensorboard import TensorBoard
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.config.messages import explain
from lightning_cnn.config.parser import Parser, require_sound_configs, with_checkpoint
from lightning_cnn.data import (
    ImageDataModule,
    datamodules,  # noqa: F401  # the parser finds by their short names those classes that are imported
)
from lightning_cnn.errors import DivergenceError, Interrupted, UserError
from lightning_cnn.files import shipped_config
from lightning_cnn.run import Run, snake_case
from lightning_cnn.startup import filter_warnings, tune_process
from lightning_cnn.training import precision
from lightning_cnn.training.distributed import OtherProcessError, Others
from lightning_cnn.training.failure_store import Failure
from lightning_cnn.training.rank_state import Agreement
from lightning_cnn.training.refusals import require_trainable
from lightning_cnn.training.resume import NOT_OF_THE_RUN, require_resumable, run_to_resume
from lightning_cnn.training.trainer import Trainer

# Some of Lightning's callbacks have devices among their settings; a config has their names.
register_type(torch.device, str, torch.device)

_DETERMINISTIC = (
    "Repeat to the bit: float32 instead of the trial, which goes by the clock, unless a precision is given, and only "
    "algorithms that compute in a fixed order. This takes as long as float32: on one processor 1.5 (SimpleCNN) to 1.8 "
    "(DeepCNN) times as long as bfloat16; on GPUs, a fixed order may cost more. Needs the same machine, versions and "
    "number of threads."
)
_RESUME = (
    "`auto` goes on with the run that this job of SLURM or torchrun has begun, or else with the newest run of the same "
    "settings that has not come to its end; if there is none, it begins a new one. A job that SLURM has put into its "
    "queue again goes on with its own run without being asked."
)
_OVERWRITE_STEPS = "Go on from an earlier checkpoint than the last one of the run; what it has beyond that is lost."
_OVERWRITE_RESULTS = "Replace the results of a whole test also by those of other weights, or of fewer images."
#: The names of mixed precision with float16.
_HALF = (16, "16", "16-mixed")
#: Largest batch to try precisions with: enough to tell them apart, and soon done.
_TRIAL_BATCH = 256


def main(argv: list[str]) -> int:
    """Run `fit`, `validate` or `test` with the arguments that follow it."""
    filter_warnings()
    tune_process()
    others = Others()
    try:
        with others.together(), ExitStack() as held:
            argv, checkpoint = with_checkpoint(argv)
            TrainCLI(argv, checkpoint, held, others)
    except OtherProcessError as failed:
        return others.leave(failed.failure)
    except MisconfigurationException as error:  # Lightning's word for settings that cannot go together
        raise UserError(" ".join(str(error).split())) from error
    return 0


class TrainCLI(LightningCLI):
    """LightningCLI for classifiers and image data modules.

    Args:
        argv: The command and its arguments.
        checkpoint: The file that `--ckpt_path` in `argv` names, if it does.
        held: Takes the lock of the run folder.
        others: The other processes of the run, if there may be any.
    """

    def __init__(self, argv: list[str], checkpoint: Path | None, held: ExitStack, others: Others | None = None) -> None:
        self.command = argv[0]
        self.checkpoint = checkpoint
        self.held = held
        self.others = others
        self.new_folder: Path | None = None
        self.first_step: int | None = None
        super().__init__(
            ImageClassifier,
            ImageDataModule,
            trainer_class=Trainer,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,  # RunFolder does it
            load_from_checkpoint_support=False,  # checkpoints describe themselves
            auto_configure_optimizers=False,  # classifiers get theirs injected
            seed_everything_default=0,
            parser_class=Parser,
            parser_kwargs={
                "prog": "lightning-cnn",
                "allow_abbrev": False,
                self.command: {"default_config_files": [str(shipped_config("default.yaml"))]},
            },
            args=argv,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning's knows all; one is needed
        """The command, with the arguments of the Trainer's method that are not options."""
        return {
            self.command: {"model", "datamodule", "weights_only", "dataloaders", "train_dataloaders", "val_dataloaders"}
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the settings of pictures and dashboard, which Lightning makes callbacks of the trainer, and our own."""
        parser.add_class_arguments(Checkpoints, "checkpoints")
        parser.add_lightning_class_args(Plots, "plots")
        parser.add_lightning_class_args(Dashboard, "dashboard")  # after the pictures, which it shows
        parser.add_argument("--deterministic", type=bool, default=False, help=_DETERMINISTIC)
        if self.command == "fit":
            parser.add_argument("--test", type=bool, default=False, help="Measure the best weights on the test images.")
            parser.add_argument("--overwrite", type=bool, default=False, help=_OVERWRITE_STEPS)
            parser.add_argument("--resume", type=Literal["auto"] | None, default=None, help=_RESUME)
        elif self.command == "test":
            parser.add_argument("--overwrite", type=bool, default=False, help=_OVERWRITE_RESULTS)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments given, whatever those of the process are."""
        assert isinstance(args, list)
        known = {action.dest.partition(".")[0] for action in self._parser(args[0])._actions}
        require_sound_configs(args, known)
        self.config = parser.parse_args(args)
        options = self.config[self.command]
        _use_processes_of_torchrun(options["trainer"])
        if options["deterministic"]:
            settings = options["trainer"]
            settings["deterministic"] = True
            if settings["precision"] == "auto":
                settings["precision"] = "32-true"
                rank_zero_info("Precision: 32-true (bf16-mixed may be faster, and can be repeated as well)")
        if self.command == "fit" and not options["trainer"]["fast_dev_run"]:
            self._resume(options)

    def _resume(self, options: Namespace) -> None:
        """Find the run that is to be gone on with, if the user asks for it or SLURM has restarted it."""
        if self.checkpoint is not None:
            if options["resume"] is not None:
                raise UserError("--resume auto looks for the run itself; leave out --ckpt_path, or --resume")
            return
        if options["resume"] is None and not environment.is_requeued_by_slurm():
            return
        root = Path(options["trainer"]["default_root_dir"] or ".")
        self.checkpoint = run_to_resume(root, self._plain_config(), this_job_only=options["resume"] is None)
        if self.checkpoint is None:
            return
        options["ckpt_path"] = str(self.checkpoint)
        if options["trainer"]["precision"] == "auto":  # the run has found out
            described = checkpoints.read_description(self.checkpoint)["config"]
            options["trainer"]["precision"] = described["trainer"]["precision"]
        rank_zero_info(f"Resumed: {Run.of_checkpoint(self.checkpoint).folder}")

    def _parse_ckpt_path(self) -> None:
        """Nothing left to do: what the checkpoint says was put before the flags, so that flags win."""

    def instantiate_classes(self) -> None:
        """Build model, data and trainer; what they refuse is the user's to mend."""
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
            self._forget_new_folder()
            raise UserError(explain(str(error), ())) from error
        if self.others is not None:
            self.others.join(self.trainer)
            if self.command == "fit":
                self.others.give_up = self._give_up

    def _set_seed(self) -> None:
        try:
            super()._set_seed()
        except ValueError as error:
            raise UserError(f"--seed_everything: {error}") from error

    def instantiate_trainer(self, **kwargs: Any) -> LightningTrainer:
        """Build the trainer with the loggers, the callbacks and the folder of this run."""
        options = self._get(self.config_init, "trainer")
        given = options["callbacks"] or []
        callbacks: list[Callback] = [given] if isinstance(given, Callback) else [*given]
        if options["enable_progress_bar"] is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(Progress())
        kwargs["enable_progress_bar"] = any(isinstance(c, ProgressBar) for c in callbacks)
        if self.subcommand != "fit" or options["fast_dev_run"]:
            if self.subcommand == "test":
                assert self.checkpoint is not None
                folder, overwrite = Run.of_checkpoint(self.checkpoint).folder, self._get(self.config, "overwrite")
                self.results = TestResults(folder, self.checkpoint, overwrite)
                callbacks.append(self.results)
            kwargs |= {"callbacks": callbacks, "logger": False, "enable_checkpointing": False}
            return super().instantiate_trainer(**kwargs)
        require_trainable(options, self.model, self.datamodule, self._get(self.config, "test"))
        kwargs["precision"] = self._precision(options)
        folder = self._run_folder(Path(options["default_root_dir"] or "."))
        loggers = self._loggers(options["logger"], folder)
        callbacks += self._fit_callbacks(options, folder, bool(loggers))
        kwargs["enable_checkpointing"] = any(isinstance(c, Checkpoint) for c in callbacks)  # Lightning's, if asked for
        return super().instantiate_trainer(callbacks=callbacks, logger=loggers, default_root_dir=folder, **kwargs)

    def _precision(self, options: Namespace) -> str | None:
        """The precision that was asked for, or that a trial finds best; this goes into the config of the run."""
        chosen: str | None = options["precision"]
        device = _device(options["accelerator"])
        if chosen in _HALF and device == torch.device("cpu"):  # Lightning would do the same, and record the other
            rank_zero_info(f"Precision: bf16-mixed ({chosen} needs a GPU)")
            self.config[self.subcommand]["trainer"]["precision"] = "bf16-mixed"
            return "bf16-mixed"
        if chosen != "auto" or device is None or options["plugins"]:
            return chosen
        if not environment.is_rank_zero():
            return None  # the first process tries, and tells the others
        pixels = torch.zeros(min(self.datamodule.batch_size, _TRIAL_BATCH), 1, 28, 28, dtype=torch.uint8)
        pixels.random_(256, generator=torch.Generator().manual_seed(0))
        verdict = precision.choose(self.model.network, self.model.preprocess(pixels), device)
        rank_zero_info(f"Precision: {verdict.precision} ({verdict})")
        self.config[self.subcommand]["trainer"]["precision"] = verdict.precision
        return verdict.precision

    def _run_folder(self, root: Path) -> Path:
        """The folder of the run that goes on, or a new one; it is locked."""
        content = None if self.checkpoint is None else checkpoints.read(self.checkpoint)
        if self.checkpoint is not None and content is not None:
            require_resumable(self.checkpoint, content, self._plain_config(), self._get(self.config, "overwrite"))
            self.first_step = content["global_step"]
        if not environment.is_rank_zero():  # which tells the others
            return root
        if self.checkpoint is not None and self.checkpoint.parent.name == "checkpoints":
            folder = Run.of_checkpoint(self.checkpoint).folder
        else:
            network = snake_case(type(self.model).__name__.removesuffix("Classifier"))
            folder = self.new_folder = Run.create(root, f"{self.datamodule.facts.name}-{network}").folder
        self.held.enter_context(Run(folder).lock())
        return folder

    def _loggers(self, chosen: Logger | list[Logger] | bool | None, folder: Path) -> Logger | list[Logger] | bool:
        """TensorBoard and `metrics.csv` in the run folder, unless the user chose something else."""
        if chosen is None or chosen is True:
            # In this order: TensorBoard's takes the epoch out of what it gives on.
            return [MetricsCSV(folder, self.first_step), TensorBoard(folder, self.first_step)]
        return chosen

    def _plain_config(self) -> dict[str, Any]:
        """All that was asked for, as plain types."""
        dumped = self._parser(self.command).dump(self.config[self.command], skip_unset=False)
        config: dict[str, Any] = yaml.safe_load(dumped)
        return config

    def _fit_callbacks(self, options: Namespace, folder: Path, with_loggers: bool) -> list[Callback]:
        """The callbacks of every run."""
        config = self._plain_config()
        for word in NOT_OF_THE_RUN:
            del config[word]
        config["trainer"]["default_root_dir"] = str(folder.parent.parent)  # also of a run that goes on
        callbacks: list[Callback] = [Agreement(self.first_step), RunFolder(folder, config)]
        if with_loggers:
            callbacks.append(LearningRateMonitor())
        if options["enable_checkpointing"] is not False:
            callbacks.append(self._get(self.config_init, "checkpoints"))
        return callbacks

    def fit(self, model: LightningModule, **kwargs: Any) -> None:
        """Train; checkpoints are data, never code."""
        try:
            self.trainer.fit(model, weights_only=True, **kwargs)
        except (DivergenceError, OtherProcessError):  # what it has logged until then may be worth a look
            raise
        except (UserError, MisconfigurationException):
            self._forget_new_folder()
            raise
        except Interrupted as interrupted:
            self._forget_new_folder()
            already_reported = not self.trainer.is_global_zero  # by the first process
            raise Interrupted(interrupted.received, self._way_on(), already_reported) from interrupted
        except ModuleNotFoundError as error:  # a callback or logger that needs more than is installed
            self._forget_new_folder()
            raise UserError(" ".join(str(error).split())) from error
        except OSError:  # of the disk
            raise
        except Exception as error:
            if self.trainer._checkpoint_connector._loaded_checkpoint:  # which is let go when all of it is restored
                raise UserError(
                    f"{self.checkpoint}: what it says of the training does not fit this run ({error!r}); train anew"
                ) from error
            if "Early stopping conditioned on metric" not in str(error):
                raise
            raise UserError(" ".join(str(error).split())) from error

    def _give_up(self, failure: Failure) -> str:
        """Leave no litter after another process has failed, and return how to go on if it has died."""
        if failure.status != 1:  # otherwise, what it has logged until then is worth a look
            self._forget_new_folder()
        return self._way_on() if failure.has_died else ""

    def _way_on(self) -> str:
        """How to go on with a run that was stopped."""
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]  # set from outside
        known = (callback.folder for callback in callbacks if isinstance(callback, RunFolder))  # in all processes
        folder = next(known, None) or Path(self.trainer.default_root_dir)
        last = Run(folder).checkpoint("last")
        if not last.is_file():
            return " before there was a checkpoint"
        test = " --test true" if self._get(self.config, "test") else ""
        step = checkpoints.read(last)["global_step"]
        if step == self.first_step:
            return " before another step was saved; give the same command again"
        command = f"{self._program()} fit --ckpt_path {quote(str(folder))}{self._own_classes()}{test}"
        return f"; go on from step {step} with: {command}"

    def _program(self) -> str:
        """How to call this command: classes of the user's own are found in the folder that Python is started in."""
        return "python -m lightning_cnn" if self._own_classes() else "lightning-cnn"

    def _own_classes(self) -> str:
        """The flags that name classes from outside of this package: no checkpoint is believed that names them."""
        classes = {"model": type(self.model), "data": type(self.datamodule)}
        outside = {name: cls for name, cls in classes.items() if cls.__module__.partition(".")[0] != "lightning_cnn"}
        return "".join(f" --{name} {cls.__module__}.{cls.__qualname__}" for name, cls in outside.items())

    def _forget_new_folder(self) -> None:
        """Leave no folder of a run that was refused before it had a checkpoint."""
        if self.new_folder is None or Run(self.new_folder).checkpoints_folder.exists():
            return
        shutil.rmtree(self.new_folder)
        with suppress(OSError):  # not empty: there are other runs
            self.new_folder.parent.rmdir()
            self.new_folder.parent.parent.rmdir()

    def validate(self, model: LightningModule, **kwargs: Any) -> None:
        """Measure on the validation images."""
        self.trainer.validate(model, weights_only=True, **kwargs)

    def test(self, model: LightningModule, **kwargs: Any) -> None:
        """Measure on the test images."""
        self.trainer.test(model, weights_only=True, **kwargs)

    def _test_best(self) -> None:
        """Measure the best weights of the training that has just ended."""
        folder = Path(self.trainer.strategy.broadcast(str(self.trainer.default_root_dir)))  # the first process knows it
        best = Run(folder).checkpoint("best")
        if not best.is_file():
            raise UserError(f"--test true needs the best weights, but training has not saved {best}")
        self.results = TestResults(folder, best, overwrite=True)  # those of the run itself, from before it went on
        self.trainer.callbacks.append(self.results)  # type: ignore[attr-defined]
        self.trainer.loggers = []  # as `test` does it: what it finds belongs to the weights, not to the last step
        self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best, weights_only=True)
        self.after_test()

    def after_test(self) -> None:
        """Sum the test up."""
        if self.trainer.is_global_zero:
            print(self.results.summary)

    def after_fit(self) -> None:
        """Say where everything is and what can be done with it."""
        if self._get(self.config, "trainer")["fast_dev_run"]:
            return
        if self.trainer.is_global_zero:
            self._sum_up()
        if self._get(self.config, "test"):
            self._test_best()

    def _sum_up(self) -> None:
        folder = Path(self.trainer.default_root_dir)
        print(f"Run folder: {folder}")
        if self.trainer.global_step == self.first_step:
            print("At its end: nothing left to train; give the run more with --trainer.max_epochs")
        best, last = (Run(folder).checkpoint(name) for name in ("best", "last"))
        if last.is_file() and not best.is_file():
            print("No best:    there is no best.ckpt, because nothing was validated")
        if (kept := best if best.is_file() else last).is_file() and not self._get(self.config, "test"):
            print(f"Test it:    {self._program()} test --ckpt_path {quote(str(kept))}{self._own_classes()}")
        print(f"Look at it: tensorboard --logdir {quote(str(folder.parent.parent))}")


def _use_processes_of_torchrun(trainer: Namespace) -> None:
    """Let torchrun, which knows it, say how many processes there are, unless the user does."""
    if (started := environment.torchrun_world()) is not None and trainer["devices"] == "auto":
        trainer["devices"], trainer["num_nodes"] = started


def _device(accelerator: str) -> torch.device | None:
    """Where training will be, if it is known how to try precisions there."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    others = accelerator == "auto" and torch.accelerator.is_available()
    return torch.device("cpu") if accelerator == "cpu" or (accelerator == "auto" and not others) else None
