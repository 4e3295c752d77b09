"""`BuildingCLI`: from the settings of `fit`, `validate` or `test` to model, data, trainer and run folder."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    Checkpoint,
    LearningRateFinder,
    LearningRateMonitor,
    ProgressBar,
)
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities import rank_zero_info

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn import signals
from lightning_cnn.callbacks import RunRecord, TestResults
from lightning_cnn.callbacks.few_steps import FewSteps
from lightning_cnn.checkpoint.onnx import is_onnx_file
from lightning_cnn.config.parser import ConstructorError, refusal
from lightning_cnn.config.places import own_config
from lightning_cnn.config.request import Request
from lightning_cnn.config.trust import require_recordable
from lightning_cnn.data.base import Part
from lightning_cnn.environment import is_rank_zero
from lightning_cnn.errors import UserError
from lightning_cnn.run import Run
from lightning_cnn.text import in_one_line
from lightning_cnn.threads import set_num_threads
from lightning_cnn.training import setup
from lightning_cnn.training.fitting import build_data, require_same_model
from lightning_cnn.training.parsing import SettingsCLI
from lightning_cnn.training.rank_state import RankSynchronisation
from lightning_cnn.training.refusals import (
    MonitoredMetrics,
    naming_flags,
    require_batches,
    require_processes,
    require_same_images,
    require_trainable,
)
from lightning_cnn.training.resume import (
    RUN_OPTIONS,
    require_resumable,
    require_same_batches,
    with_pretrained,
)
from lightning_cnn.training.trainer import Trainer
from lightning_cnn.waiting import sleep_beside_others


def _with(callbacks: list[Callback]) -> dict[str, Any]:
    """Return callbacks as arguments of the trainer, which must not add its own of the same kind."""
    return {
        "callbacks": callbacks,
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
    }


class BuildingCLI(SettingsCLI):
    """LightningCLI that builds model, data and trainer from the settings, and opens the run folder.

    Args:
        request: What is asked for.
        stack: Keeps the lock of the run folder.
    """

    trainer: Trainer
    #: What writes the results of a test.
    results_class = TestResults

    def __init__(self, request: Request, stack: ExitStack) -> None:
        self.stack = stack
        self.new_run: Run | None = None
        self.description: checkpoints.Description | None = None  # of the checkpoint
        self.is_exported = False  # an ONNX file, which the model has opened itself
        self.resumed: dict[str, Any] = {}  # the content of the checkpoint to resume from
        self.first_step: int | None = None
        self.run_record: RunRecord | None = None
        self.test_results: TestResults | None = None
        super().__init__(request)

    def instantiate_classes(self) -> None:
        """Build model, data and trainer.

        Raises:
            UserError: If one of them refuses its settings.
        """
        if self.checkpoint is not None:
            content = checkpoints.read(self.checkpoint)
            self.description = content[checkpoints.KEY]
            self.is_exported = is_onnx_file(self.checkpoint)
            self.resumed = content if self.command == "fit" else {}
            if self.command == "fit" and not self.is_without_run:
                require_resumable(self.checkpoint, content, self.settings, self.settings["overwrite"])
        try:
            if self.checkpoint is not None:
                if "weights" in self.config["model"].get("init_args", {}):  # it has its own
                    self.config["model"]["init_args"]["weights"] = None
                part: Part | None = {"validate": "val", "test": "test"}.get(self.command)  # type: ignore[assignment]
                self.config["data"] = build_data(self.parser, self.config, self.checkpoint, content, part)
                require_same_images(self.checkpoint, content, self.config["data"])
                if not self.is_exported:
                    require_same_model(self.parser, self.config, content["state_dict"])
            LightningCLI.instantiate_classes(self)
        except (ValueError, TypeError, RuntimeError, MisconfigurationException, ConstructorError) as error:
            raise UserError(refusal(error, self.settings)) from error
        self._set_threads()
        if self.command == "fit" and self.checkpoint is not None:
            require_same_batches(self.resumed, self.datamodule, self.trainer.world_size)
            self.resumed = {}  # its tensors would stay in memory

    def _set_threads(self) -> None:
        """Set the number of threads: that of the checkpoint, or else as many as there are free cores.

        A deterministic run does not depend on what else the machine does; several processes divide all cores.
        """
        recorded = None if self.description is None else self.description.get("threads")
        is_deterministic = recorded is None and self.settings["trainer"]["deterministic"]
        is_free = self.trainer.world_size == 1 and not is_deterministic
        if is_free and (message := set_num_threads(recorded)):
            rank_zero_info(message)
        sleep_beside_others(torch.get_num_threads())

    def instantiate_trainer(self, **kwargs: Any) -> LightningTrainer:
        """Build the trainer with the loggers, the callbacks and the folder of this run; errors name their flags."""
        options = self.config_init["trainer"]
        kwargs |= self._for_training(options) if self.command == "fit" else self._for_evaluation(options)
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (ValueError, TypeError, RuntimeError, MisconfigurationException, ModuleNotFoundError) as error:
            raise UserError(naming_flags(in_one_line(error), self.request.settings["trainer"], always=True)) from error
        require_processes(trainer)
        return trainer

    def _for_evaluation(self, options: Namespace) -> dict[str, Any]:
        """Return the arguments of a trainer for `validate` or `test`."""
        if options["barebones"]:
            raise UserError(f"--trainer.barebones true logs nothing, so `{self.command}` has no metrics; leave it out")
        require_batches(options, "test" if self.command == "test" else "val")
        callbacks = setup.make_callbacks(options["callbacks"], options["enable_progress_bar"])
        if self.command == "test":
            assert self.checkpoint is not None
            folder = Run.of_checkpoint(self.checkpoint).folder
            folder.mkdir(parents=True, exist_ok=True)  # of weights of this package
            self.test_results = self.results_class(folder, self.checkpoint, self.settings["overwrite"])
            callbacks.append(self.test_results)
        # A trainer that restores no checkpoint writes into its own folder.
        place = {}
        if self.is_exported and self.checkpoint is not None:
            place["default_root_dir"] = Run.of_checkpoint(self.checkpoint).folder
        return {**_with(callbacks), **place, "logger": setup.user_loggers(options["logger"])}

    def _for_training(self, options: Namespace) -> dict[str, Any]:
        """Return the arguments of a trainer for `fit`; unless nothing is to be written, the run folder is opened."""
        if options["fast_dev_run"]:
            callbacks = setup.make_callbacks(options["callbacks"], options["enable_progress_bar"])
            return {**_with(callbacks), "logger": []}
        require_trainable(options, self.model, self.datamodule, self.settings["test"])
        precision = setup.choose_precision(vars(options), self.model, self.datamodule.batch_size)
        if options["barebones"]:
            self.parser.callback_keys = ["distillation"]  # neither plots nor dashboard
            callbacks = setup.make_callbacks(options["callbacks"], shows_progress=False)
            return {"callbacks": [*callbacks, RankSynchronisation(None)], "precision": precision}
        folder = self._open_run(Path(options["default_root_dir"] or "."))
        loggers = setup.make_loggers(options["logger"], Run(folder), self.first_step)
        callbacks = setup.make_callbacks(options["callbacks"], options["enable_progress_bar"])
        if self.first_step is not None:  # the checkpoint has what was found; a search would begin anew
            finders = (LearningRateFinder, BatchSizeFinder)
            callbacks = [callback for callback in callbacks if not isinstance(callback, finders)]
        # `RunRecord` gives the loggers all settings.
        self.model._log_hyperparams = self.datamodule._log_hyperparams = False
        self.run_record = RunRecord(folder, self._record(folder, precision))
        callbacks += [RankSynchronisation(self.first_step), self.run_record, FewSteps(), MonitoredMetrics()]
        if loggers and not any(isinstance(callback, LearningRateMonitor) for callback in callbacks):
            callbacks.append(LearningRateMonitor())
        if options["enable_checkpointing"] is not False:
            callbacks.append(self.config_init["checkpoints"])
        return {**_with(callbacks), "logger": loggers, "default_root_dir": folder, "precision": precision}

    def _open_run(self, root: Path) -> Path:
        """Return the folder of the run that is resumed, or a new one; it is locked."""
        if self.checkpoint is not None:
            self.first_step = self.resumed["global_step"]
        if not is_rank_zero():  # rank 0 broadcasts its folder
            return root
        if self.checkpoint is not None:
            run = Run.of_checkpoint(self.checkpoint)
            if run.has_checkpoint(self.checkpoint):  # otherwise, it is a copy elsewhere
                self.stack.enter_context(run.lock())
                return run.folder
        with signals.deferred():  # until it is certain that an empty folder is removed
            self.new_run = self.stack.enter_context(setup.new_run(root, self.model, self.datamodule))
        return self.new_run.folder

    def _record(self, folder: Path, precision: str | None) -> dict[str, Any]:
        """Return the settings that the run records: those given, and what was decided.

        Raises:
            UserError: If the run could not be resumed with them.
        """
        root = str(folder.parent.parent)
        decided = {"default_root_dir": root} | ({} if precision is None else {"precision": precision})
        record = {name: value for name, value in self.settings.items() if name not in RUN_OPTIONS}
        record["trainer"] = {**self.settings["trainer"], **decided}
        if self.checkpoint is not None and self.description is not None:
            before = self.description["config"].get("model")
            record["model"] = with_pretrained(record["model"], before, own_config(self.checkpoint).get("model"))
        require_recordable(record)
        return record

    @property
    def current_run(self) -> Run:
        """The run, which rank 0 broadcasts when training starts."""
        folder = None if self.run_record is None else self.run_record.folder
        return Run(folder or Path(self.trainer.default_root_dir))
