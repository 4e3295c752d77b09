"""`TrainingCLI` runs `fit`, `validate` or `test`, and ends it: errors, signals, results. `commands` starts it."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shlex import quote

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.spike import TrainingSpikeException
from lightning.pytorch.callbacks import BatchSizeFinder, Callback, ModelPruning
from lightning.pytorch.cli import ArgsType, LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_info

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn import signals
from lightning_cnn.callbacks import TestResults
from lightning_cnn.config.request import Request
from lightning_cnn.config.trust import is_trusted
from lightning_cnn.errors import DivergenceError, Interrupted, UserError
from lightning_cnn.text import in_one_line
from lightning_cnn.training import setup
from lightning_cnn.training.averaging import save_weights
from lightning_cnn.training.building import BuildingCLI
from lightning_cnn.training.distributed import PeerProcesses
from lightning_cnn.training.failure_store import Failure
from lightning_cnn.training.next_commands import resume_hint, summary, user_classes
from lightning_cnn.training.refusals import naming_flags, require_new
from lightning_cnn.training.trainer import is_of_restored_state, is_restoring


class TrainingCLI(BuildingCLI):
    """LightningCLI that runs its command with what it has built.

    Args:
        request: What is asked for.
        stack: Keeps the lock of the run folder.
        peers: All processes of the run.
    """

    #: Whether to print where the results are, and which commands use them.
    prints_summary = True

    def __init__(self, request: Request, stack: ExitStack, peers: PeerProcesses) -> None:
        self.peers = peers
        super().__init__(request, stack)

    def instantiate_classes(self) -> None:
        """Build model, data and trainer, and join the other processes of the run."""
        super().instantiate_classes()
        if self.command == "fit":
            self.peers.on_peer_failure = self._on_peer_failure
        self.peers.join(self.trainer)

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
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        # They would search again for the test.
        callbacks[:] = [callback for callback in callbacks if not isinstance(callback, BatchSizeFinder)]
        is_finished = self.trainer.global_step == self.first_step
        average = self._save_average()
        with self._resumable():
            if self.prints_summary and self.trainer.is_global_zero:
                classes = user_classes(self.model, self.datamodule)
                monitor = self.settings["checkpoints"]["monitor"]
                text = summary(self.current_run, classes, is_finished, self.settings["test"], average, monitor)
                print(text, flush=True)
            if self.settings["test"]:
                self._test(average or self.current_run.checkpoint("best"))

    def _train(self) -> None:
        if self.checkpoint is None:
            require_new(self.trainer)
        try:
            with self._resumable():
                self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=self.checkpoint, weights_only=True)
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

    @contextmanager
    def _resumable(self) -> Iterator[None]:
        """Say how to resume the run, if a signal ends the block."""
        try:
            yield
        except Interrupted as interrupted:
            raise Interrupted(
                interrupted.received, self._resume_hint(), already_reported=not self.trainer.is_global_zero
            ) from interrupted
        except SystemExit as ended:
            if not isinstance(ended.__context__, KeyboardInterrupt):  # which Lightning ends with it
                raise
            raise Interrupted(signal.SIGINT, self._resume_hint()) from ended
        except BrokenPipeError as error:
            if not signals.leave_closed_output():
                raise
            raise Interrupted(signal.SIGPIPE, f" (nobody reads its output){self._resume_hint()}") from error

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
            raise UserError(
                f"--test true needs the best weights, but training ended before a validation could save {checkpoint}; "
                f"test the last ones with `lightning-cnn test {quote(str(self.current_run.checkpoint('last')))}`"
            )
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ModelPruning):
                callback.make_pruning_permanent(self.model)  # as in the checkpoint
        # Results that are there already are those of the run itself, from before it resumed.
        self.test_results = TestResults(self.current_run.folder, checkpoint, overwrite=True)
        self.trainer.callbacks.append(self.test_results)  # type: ignore[attr-defined]  # Lightning sets it from outside
        self.trainer.loggers = []  # as in `test`: the metrics belong to the weights, not to the last step
        self._evaluate(checkpoint)


class PythonCLI(TrainingCLI):
    """The same, called from Python, where `fit` returns the run that it has written."""

    prints_summary = False

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the settings; refuse those of a training that writes no run.

        Raises:
            UserError: If there are some.
        """
        super().parse_arguments(parser, args)
        if self.command == "fit" and self.is_without_run:
            name = "fast_dev_run" if self.settings["trainer"]["fast_dev_run"] else "barebones"
            raise UserError(
                f"--trainer.{name} writes no run, and `fit` returns one; leave it out, "
                "and try a training out with max_epochs=1, limit_train_batches=1 and limit_val_batches=1"
            )
