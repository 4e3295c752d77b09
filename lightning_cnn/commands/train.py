"""`fit`, `validate` and `test`: LightningCLI with run folders, and with checkpoints that are enough by themselves."""

import shutil
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Any

import torch
import yaml
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_info

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn import precision
from lightning_cnn.callbacks import Dashboard, Plots, Progress, RunFolder, TestResults
from lightning_cnn.callbacks.metrics_csv import MetricsCSV
from lightning_cnn.callbacks.run_folder import create
from lightning_cnn.callbacks.tensorboard import TensorBoard
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.commands.arguments import Parser, require_sound_configs, with_checkpoint
from lightning_cnn.commands.messages import explain
from lightning_cnn.commands.trainer import Trainer
from lightning_cnn.data import (
    ImageDataModule,
    datamodules,  # noqa: F401  # the parser finds by their short names those classes that are imported
)
from lightning_cnn.errors import UserError
from lightning_cnn.files import shipped_config
from lightning_cnn.machine import tune
from lightning_cnn.names import snake_case
from lightning_cnn.quiet import quieten

#: Largest batch to try precisions with: enough to tell them apart, and soon done.
_TRIAL_BATCH = 256


def main(argv: list[str]) -> int:
    """Run `fit`, `validate` or `test` with the arguments that follow it."""
    quieten()
    tune()
    argv, checkpoint = with_checkpoint(argv)
    try:
        TrainCLI(argv, checkpoint)
    except MisconfigurationException as error:  # Lightning's word for settings that cannot go together
        raise UserError(" ".join(str(error).split())) from error
    return 0


class TrainCLI(LightningCLI):
    """LightningCLI for classifiers and image data modules.

    Args:
        argv: The command and its arguments.
        checkpoint: The file that `--ckpt_path` in `argv` names, if it does.
    """

    def __init__(self, argv: list[str], checkpoint: Path | None) -> None:
        self.command = argv[0]
        self.checkpoint = checkpoint
        self.new_folder: Path | None = None
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
        """Add the settings of pictures and dashboard, which Lightning makes callbacks of the trainer, and `--test`."""
        parser.add_lightning_class_args(Plots, "plots")
        parser.add_lightning_class_args(Dashboard, "dashboard")  # after the pictures, which it shows
        if self.command == "fit":
            parser.add_argument("--test", type=bool, default=False, help="Measure the best weights on the test images.")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments given, whatever those of the process are."""
        assert isinstance(args, list)
        known = {action.dest.partition(".")[0] for action in self._parser(args[0])._actions}
        require_sound_configs(args, known)
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Nothing left to do: what the checkpoint says was put before the flags, so that flags win."""

    def instantiate_classes(self) -> None:
        """Build model, data and trainer; what they refuse is the user's to mend."""
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, MisconfigurationException) as error:
            self._forget_new_folder()
            raise UserError(explain(str(error), ())) from error

    def _set_seed(self) -> None:
        try:
            super()._set_seed()
        except ValueError as error:
            raise UserError(f"--seed_everything: {error}") from error

    def instantiate_trainer(self, **kwargs: Any) -> LightningTrainer:
        """Build the trainer with the loggers, the callbacks and the folder of this run."""
        options = self._get(self.config_init, "trainer")
        callbacks: list[Callback] = [*(options["callbacks"] or [])]
        if options["enable_progress_bar"] is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(Progress())
        kwargs["enable_progress_bar"] = any(isinstance(c, ProgressBar) for c in callbacks)
        if self.subcommand != "fit" or options["fast_dev_run"]:
            if self.subcommand == "test":
                assert self.checkpoint is not None
                self.results = TestResults(checkpoints.run_folder(self.checkpoint), self.checkpoint)
                callbacks.append(self.results)
            kwargs |= {"callbacks": callbacks, "logger": False, "enable_checkpointing": False}
            return super().instantiate_trainer(**kwargs)
        kwargs["precision"] = self._precision(options)
        folder = self._run_folder(Path(options["default_root_dir"] or "."))
        loggers = self._loggers(options["logger"], folder)
        callbacks += self._fit_callbacks(options, folder, bool(loggers))
        return super().instantiate_trainer(callbacks=callbacks, logger=loggers, default_root_dir=folder, **kwargs)

    def _precision(self, options: Namespace) -> str | None:
        """The precision that was asked for, or that a trial finds best; this goes into the config of the run."""
        chosen: str | None = options["precision"]
        device = _device(options["accelerator"])
        if chosen != "auto" or device is None or options["plugins"]:
            return chosen
        pixels = torch.zeros(min(self.datamodule.batch_size, _TRIAL_BATCH), 1, 28, 28, dtype=torch.uint8)
        pixels.random_(256, generator=torch.Generator().manual_seed(0))
        verdict = precision.choose(self.model.network, self.model.preprocess(pixels), device)
        rank_zero_info(f"Precision: {verdict.precision} ({verdict})")
        self.config[self.subcommand]["trainer"]["precision"] = verdict.precision
        return verdict.precision

    def _run_folder(self, root: Path) -> Path:
        """The folder of the run that goes on, or a new one."""
        if self.checkpoint is not None and self.checkpoint.parent.name == checkpoints.FOLDER:
            return checkpoints.run_folder(self.checkpoint)
        if rank_zero_only.rank:  # type: ignore[attr-defined]  # the first process creates it and tells the others
            return root
        network = snake_case(type(self.model).__name__.removesuffix("Classifier"))
        self.new_folder = create(root, f"{self.datamodule.facts.name}-{network}")
        return self.new_folder

    def _loggers(self, chosen: Logger | list[Logger] | bool | None, folder: Path) -> Logger | list[Logger] | bool:
        """TensorBoard and `metrics.csv` in the run folder, unless the user chose something else."""
        if chosen is None or chosen is True:
            # In this order: TensorBoard's takes the epoch out of what it gives on.
            first_step = None if self.checkpoint is None else checkpoints.read(self.checkpoint)["global_step"]
            return [MetricsCSV(folder), TensorBoard(folder, first_step)]
        return chosen

    def _fit_callbacks(self, options: Namespace, folder: Path, with_loggers: bool) -> list[Callback]:
        """The callbacks of every run."""
        config = yaml.safe_load(self._parser(self.subcommand).dump(self.config[self.subcommand], skip_unset=False))
        del config["test"]  # a word to this command, not about the run
        callbacks: list[Callback] = [RunFolder(folder, config)]
        if with_loggers:
            callbacks.append(LearningRateMonitor())
        if options["enable_checkpointing"] is not False:
            dirpath = folder / checkpoints.FOLDER
            callbacks.append(_EpochCheckpoint(dirpath, filename="best", monitor="val/acc", mode="max"))
            # Not `save_last`, which would write it only when there is a new best.
            callbacks.append(_EpochCheckpoint(dirpath, filename="last", enable_version_counter=False))
        return callbacks

    def fit(self, model: LightningModule, **kwargs: Any) -> None:
        """Train; checkpoints are data, never code."""
        try:
            self.trainer.fit(model, weights_only=True, **kwargs)
        except (UserError, MisconfigurationException):
            self._forget_new_folder()
            raise
        except RuntimeError as error:
            if "Early stopping conditioned on metric" not in str(error):
                raise
            raise UserError(" ".join(str(error).split())) from error

    def _forget_new_folder(self) -> None:
        """Leave no folder of a run that was refused before it had a checkpoint."""
        if self.new_folder is None or (self.new_folder / checkpoints.FOLDER).exists():
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
        best = folder / checkpoints.FOLDER / "best.ckpt"
        if not best.is_file():
            raise UserError(f"--test true needs the best weights, but training has not saved {best}")
        self.results = TestResults(folder, best)
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
        best = folder / checkpoints.FOLDER / "best.ckpt"
        if best.is_file() and not self._get(self.config, "test"):
            print(f"Test it:    lightning-cnn test --ckpt_path {quote(str(best))}")
        print(f"Look at it: tensorboard --logdir {quote(str(folder.parent.parent))}")


class _EpochCheckpoint(ModelCheckpoint):
    """A checkpoint after the validation of each epoch: there is nothing to look for at every batch."""

    on_train_batch_end = None  # type: ignore[assignment]


def _device(accelerator: str) -> torch.device | None:
    """Where training will be, if it is known how to try precisions there."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    others = accelerator == "auto" and torch.accelerator.is_available()
    return torch.device("cpu") if accelerator == "cpu" or (accelerator == "auto" and not others) else None
