"""`TrainingCLI`: LightningCLI, and what a run of `fit`, `validate` or `test` needs around it. `commands` starts it."""

import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from shlex import quote
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.spike import TrainingSpikeException
from lightning.pytorch import Callback
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    Checkpoint,
    LearningRateFinder,
    LearningRateMonitor,
    ModelPruning,
    ProgressBar,
)
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities import rank_zero_info

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn import signals
from lightning_cnn.callbacks import RunRecord, TestResults
from lightning_cnn.config.parser import ConstructorError, in_one_line, refusal
from lightning_cnn.config.request import Request
from lightning_cnn.config.trust import is_trusted, require_recordable
from lightning_cnn.data.base import Part
from lightning_cnn.environment import is_rank_zero
from lightning_cnn.errors import DivergenceError, Interrupted, UserError
from lightning_cnn.run import Run
from lightning_cnn.threads import set_num_threads
from lightning_cnn.training import setup
from lightning_cnn.training.averaging import save_weights
from lightning_cnn.training.distributed import PeerProcesses
from lightning_cnn.training.failure_store import Failure
from lightning_cnn.training.fitting import build_data, require_same_model
from lightning_cnn.training.parsing import SettingsCLI
from lightning_cnn.training.rank_state import RankSynchronisation
from lightning_cnn.training.refusals import (
    MonitoredMetrics,
    naming_flags,
    require_batches,
    require_new,
    require_processes,
    require_same_images,
    require_trainable,
)
from lightning_cnn.training.resume import (
    RUN_OPTIONS,
    require_resumable,
    require_same_batches,
    resume_hint,
    summary,
    user_classes,
    with_pretrained,
)
from lightning_cnn.training.trainer import Trainer, is_of_restored_state, is_restoring


def _with(callbacks: list[Callback]) -> dict[str, Any]:
    """Return callbacks as arguments of the trainer, which must not add its own of the same kind."""
    return {
        "callbacks": callbacks,
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
    }


class TrainingCLI(SettingsCLI):
    """LightningCLI that instantiates model, data and trainer, and then runs its command.

    Args:
        request: What is asked for.
        stack: Keeps the lock of the run folder.
        peers: All processes of the run.
        prints_summary: Whether to print where the results are, and which commands use them.
    """

    trainer: Trainer
    #: What writes the results of a test.
    results_class = TestResults

    def __init__(self, request: Request, stack: ExitStack, peers: PeerProcesses, prints_summary: bool = True) -> None:
        self.stack = stack
        self.peers = peers
        self.prints_summary = prints_summary
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
            self.is_exported = not content["state_dict"]
            self.resumed = content if self.command == "fit" else {}
            if self.command == "fit" and not self.is_without_run:
                require_resumable(self.checkpoint, content, self.settings, self.settings["overwrite"])
        try:
            if self.checkpoint is not None:
                if "weights" in self.config["model"].get("init_args", {}):  # it has its own
                    self.config["model"]["init_args"]["weights"] = None
                part: Part | None = {"validate": "val", "test": "test"}.get(self.command)  # type: ignore[assignment]
                self.config["data"] = build_data(self.parser, self.config, content, part)
                require_same_images(self.checkpoint, content.get("hyper_parameters", {}), self.config["data"])
                if not self.is_exported:
                    require_same_model(self.parser, self.config, content["state_dict"])
            LightningCLI.instantiate_classes(self)
        except (ValueError, TypeError, RuntimeError, MisconfigurationException, ConstructorError) as error:
            raise UserError(refusal(error, self.settings)) from error
        self._set_threads()
        if self.command == "fit":
            if self.checkpoint is not None:
                require_same_batches(self.resumed, self.datamodule, self.trainer.world_size)
                self.resumed = {}  # its tensors would stay in memory
            self.peers.on_peer_failure = self._on_peer_failure
        self.peers.join(self.trainer)

    def _set_threads(self) -> None:
        """Set the number of threads: that of the checkpoint, or else as many as there are free cores.

        A deterministic run does not depend on what else the machine does; several processes divide all cores.
        """
        recorded = None if self.description is None else self.description.get("threads")
        if self.trainer.world_size > 1 or (recorded is None and self.settings.get("deterministic")):
            return
        if message := set_num_threads(recorded):
            rank_zero_info(message)

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
        return {
            **_with(callbacks),
            **place,
            "logger": setup.user_loggers(options["logger"]),
            "enable_checkpointing": False,
        }

    def _for_training(self, options: Namespace) -> dict[str, Any]:
        """Return the arguments of a trainer for `fit`; unless nothing is to be written, the run folder is opened."""
        if options["fast_dev_run"]:
            callbacks = setup.make_callbacks(options["callbacks"], options["enable_progress_bar"])
            return {**_with(callbacks), "logger": [], "enable_checkpointing": False}
        require_trainable(options, self.model, self.datamodule, self.settings["test"])
        precision = setup.choose_precision(vars(options), self.model, self.datamodule.batch_size)
        if options["barebones"]:
            self.parser.callback_keys = ["distillation"]  # neither plots nor dashboard
            return {"precision": precision}
        folder = self._open_run(Path(options["default_root_dir"] or "."))
        loggers = setup.make_loggers(options["logger"], Run(folder), self.first_step)
        callbacks = setup.make_callbacks(options["callbacks"], options["enable_progress_bar"])
        if self.first_step is not None:  # the checkpoint has what was found; a search would begin anew
            finders = (LearningRateFinder, BatchSizeFinder)
            callbacks = [callback for callback in callbacks if not isinstance(callback, finders)]
        # `RunRecord` gives the loggers all settings.
        self.model._log_hyperparams = self.datamodule._log_hyperparams = False
        self.run_record = RunRecord(folder, self._record(folder, precision))
        callbacks += [RankSynchronisation(self.first_step), self.run_record, MonitoredMetrics()]
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
        if self.description is not None:
            before = self.description["config"].get("model")
            record["model"] = with_pretrained(record["model"], before, self._own_model())
        require_recordable(record)
        return record

    def _own_model(self) -> Any:
        """Return the settings of the model in the `config.yaml` of the run that is resumed, if there are any."""
        assert self.checkpoint is not None
        run = Run.of_checkpoint(self.checkpoint)
        if not run.has_checkpoint(self.checkpoint) or not run.config_file.is_file():
            return None
        with suppress(UserError):  # it is damaged, and is written anew
            return run.read_config().get("model")
        return None

    @property
    def current_run(self) -> Run:
        """The run, which rank 0 broadcasts when training starts."""
        folder = None if self.run_record is None else self.run_record.folder
        return Run(folder or Path(self.trainer.default_root_dir))

    def run(self) -> None:
        """Run the command."""
        if self.command == "fit":
            self._fit()
        else:
            self._evaluate(self.checkpoint, self.settings["verbose"])

    def _evaluate(self, checkpoint: Path | None, verbose: bool = True) -> None:
        if self.command != "fit" and self.description is not None:
            self._report_other_data(self.description)
        if self.is_exported:
            checkpoint = None
            if self.test_results is not None and self.description is not None:
                self.test_results.compare_with(self.description)
        evaluate = self.trainer.validate if self.command == "validate" else self.trainer.test
        evaluate(self.model, datamodule=self.datamodule, ckpt_path=checkpoint, verbose=verbose, weights_only=True)
        if self.test_results is not None and self.prints_summary and self.trainer.is_global_zero:
            print(self.test_results.summary)

    def _report_other_data(self, description: checkpoints.Description) -> None:
        """Say so if the checkpoint was trained on other data."""
        trained_on = (checkpoints.class_path(description, "data") or "").rpartition(".")[2]
        if trained_on not in ("", type(self.datamodule).__name__):
            rank_zero_info(f"{self.checkpoint} was trained with {trained_on}, and is evaluated on other data")

    def _fit(self) -> None:
        """Train, and test the best weights if that is asked for."""
        self._train()
        if self.is_without_run:
            return
        finders = [callback for callback in self.trainer.callbacks if isinstance(callback, BatchSizeFinder)]  # type: ignore[attr-defined]
        for finder in finders:  # they would search again for the test
            self.trainer.callbacks.remove(finder)  # type: ignore[attr-defined]
        is_finished = self.trainer.global_step == self.first_step
        average = self._save_average()
        if self.prints_summary and self.trainer.is_global_zero:
            classes = user_classes(self.model, self.datamodule)
            monitor = self.settings["checkpoints"]["monitor"]
            print(summary(self.current_run, classes, is_finished, self.settings["test"], average, monitor))
        if self.settings["test"]:
            self._test(average or self.current_run.checkpoint("best"))

    def _train(self) -> None:
        if self.checkpoint is None:
            require_new(self.trainer)
        try:
            self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=self.checkpoint, weights_only=True)
        except Interrupted as interrupted:
            raise Interrupted(
                interrupted.received, self._resume_hint(), already_reported=not self.trainer.is_global_zero
            ) from interrupted
        except SystemExit as ended:
            if not isinstance(ended.__context__, KeyboardInterrupt):  # which Lightning ends with it
                raise
            raise Interrupted(signal.SIGINT, self._resume_hint()) from ended
        except (UserError, MisconfigurationException, ModuleNotFoundError, OSError):
            raise
        except TrainingSpikeException as error:
            raise DivergenceError(in_one_line(error)) from error
        except Exception as error:
            if is_restoring(self.trainer) or is_of_restored_state(error, self.trainer, self.first_step):
                raise UserError(
                    f"{self.checkpoint}: its training state does not fit this run ({error!r}); train a new run"
                ) from error
            trainer = self.request.settings["trainer"]
            is_setting = isinstance(error, ValueError) and any(f"`{name}`" in str(error) for name in trainer)
            if not is_setting and "Early stopping conditioned on metric" not in str(error):
                raise
            raise UserError(naming_flags(in_one_line(error), trainer)) from error

    def _on_peer_failure(self, failure: Failure) -> str:
        """Clean up after a peer process has failed, and return how to resume if it has died."""
        if self.new_run is not None and failure.status != 1:  # otherwise, the metrics until then are worth a look
            setup.remove_empty_run(self.new_run)
        return self._resume_hint() if failure.was_killed else ""

    def _resume_hint(self) -> str:
        run, flags = self.current_run, user_classes(self.model, self.datamodule)
        if self.run_record is not None and not is_trusted(self.run_record.config, flags.split()):
            flags += f" --config {quote(str(run.config_file))}"
        if self.settings["test"]:
            flags += " --test true"
        return resume_hint(run, self.first_step, flags)

    def _save_average(self) -> Path | None:
        """Validate and save the stochastic average of the weights, and return the file; None if there is none."""
        if not self.trainer.averages.is_stochastic or not self.trainer.checkpoint_callbacks:
            return None
        path = self.current_run.checkpoint("swa")
        if self.trainer.global_step == self.first_step and path.is_file():  # nothing was left to train
            return path
        self.trainer.loggers = []  # the metrics belong to the average, not to the last step
        self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False)
        assert self.run_record is not None
        save_weights(self.trainer, self.run_record, path)
        return path

    def _test(self, checkpoint: Path) -> None:
        """Test the best weights of the training that has just ended, or their average."""
        if not checkpoint.is_file():
            raise UserError(f"--test true needs the best weights, but training has not saved {checkpoint}")
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ModelPruning):
                callback.make_pruning_permanent(self.model)  # as in the checkpoint
        # Results that are there already are those of the run itself, from before it resumed.
        self.test_results = TestResults(self.current_run.folder, checkpoint, overwrite=True)
        self.trainer.callbacks.append(self.test_results)  # type: ignore[attr-defined]  # Lightning sets it from outside
        self.trainer.loggers = []  # as in `test`: the metrics belong to the weights, not to the last step
        self._evaluate(checkpoint)
