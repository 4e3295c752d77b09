"""A worker of a sweep: runs trials until the requested number has ended, over all workers."""

import math
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout
from optuna import Study, TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from lightning_cnn import signals
from lightning_cnn.errors import Interrupted, UserError
from lightning_cnn.run import Run
from lightning_cnn.sweep import trial_process
from lightning_cnn.sweep.records import Records, record, tested
from lightning_cnn.sweep.results import locked, trial_line, write_tables
from lightning_cnn.sweep.storage import ConnectionLostError, Storage, StorageError
from lightning_cnn.sweep.tasks import (
    DIVERGED,
    ENDED,
    Repetition,
    Search,
    SweepError,
    has_failed,
    original_number,
    retried,
)
from lightning_cnn.sweep.trial_main import DIVERGED as DIVERGED_STATUS

#: Seconds between two checks of a trial, and of the trials of other workers.
POLL = 0.2
WAIT = 1


class TrialFailedError(Exception):
    """A trial has failed; the sweep continues."""


@dataclass(eq=False)
class Worker:
    """Runs trials of a sweep.

    `Study.optimize` runs each trial, so that Optuna records heartbeats and retries the trials of dead workers. A worker
    counts ended and running trials, and holds the lock of the storage until it has claimed the next one;
    `MaxTrialsCallback` counts after a trial, so that several workers would run too many.

    Args:
        storage: What the workers share.
        study: The study of the sweep.
        backend: Its storage in Optuna.
        folder: The folder of the sweep, for the trials of this worker.
        task: What to do.
        config: The config of all trials.
        flags: The flags of `fit` for all trials.
        fit_config: All settings of `fit`, for the results, which are written after every trial.
        records: Where the seeds of a repetition are recorded; None if they are not.
    """

    storage: Storage
    study: Study
    backend: RDBStorage
    folder: Path
    task: Search | Repetition
    config: Path
    flags: Sequence[str]
    fit_config: dict[str, Any]
    records: Records | None = None

    def __post_init__(self) -> None:
        (self.monitor,) = self.study.metric_names or [""]
        self._locking, self._deferring = ExitStack(), ExitStack()  # of the storage and of signals, to claim a trial
        self._claimed: Trial | None = None
        self._failed_before = {trial.number for trial in self._trials() if has_failed(trial)}

    def run(self) -> None:
        """Work until the sweep has ended.

        Raises:
            UserError: If `fit` refuses the settings of a trial.
            SweepError: If too many trials in a row fail.
            StorageError: If the storage fails.
            Interrupted: If a signal has stopped it; the next worker resumes the trial.
        """
        while True:
            try:
                with self.storage.failing_clearly():
                    return self._work()
            except ConnectionLostError:  # in the middle of a transaction; the next one waits for the storage
                time.sleep(WAIT)

    def _work(self) -> None:
        is_waiting = False
        while True:
            with self._deferring, self._locking:
                self._locking.enter_context(self.storage.locked())
                self._deferring.enter_context(signals.deferred(self._stop_waiting))
                if (number := self._next_number()) is not None:
                    self.study.sampler = self.task.sampler(number)
                    self._run_next()
                    continue
                if not self._count(TrialState.RUNNING):
                    return
            if not is_waiting:
                print("Waiting for the trials of other workers", flush=True)
            is_waiting = True
            time.sleep(WAIT)

    def require_complete(self) -> None:
        """Check that the requested number of trials has ended, one of them with a result.

        Raises:
            SweepError: If runs of a repetition have failed; a search replaces them. If all trials have diverged.
        """
        if (missing := self.task.n_trials - self._count(*ENDED)) > 0:
            raise SweepError(f"{missing} of {self.task.n_trials} trials have failed; the same command tries them again")
        if not self._count(TrialState.COMPLETE):
            raise SweepError(f"all {self.task.n_trials} trials have diverged: {self._trials()[-1].user_attrs['error']}")

    def _stop_waiting(self) -> None:
        """Do not wait for a server that is away."""
        self.storage.patience = 0

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _count(self, *states: TrialState) -> int:
        """Return the number of trials of the task in one of these states."""
        return sum(trial.state in states and self.task.counts(trial) for trial in self._trials())

    def _next_number(self) -> int | None:
        """Enqueue the next trial if none waits, and return its number; None if there is none. Requires the lock."""
        self._retry_interrupted()
        if self._count(*ENDED, TrialState.RUNNING) >= self.task.n_trials:
            return None
        trials = self._trials()
        fixed = self.task.next_trial([trial for trial in trials if trial.number not in self._failed_before])
        if waiting := [trial for trial in trials if trial.state == TrialState.WAITING]:
            return original_number(waiting[0])
        if fixed is None:
            return None
        number = sum(not RetryHeartbeatStaleTrialCallback.retry_history(trial) for trial in trials)
        self.study.enqueue_trial({}, user_attrs={"number": number} | ({"settings": fixed} if fixed else {}))
        return number

    def _retry(self, attempt: int) -> None:
        """Let the next worker resume a trial."""
        if self._trials()[attempt].state == TrialState.RUNNING:
            self.study.tell(attempt, state=TrialState.FAIL)
        RetryHeartbeatStaleTrialCallback()(self.study, self._trials()[attempt])

    def _retry_interrupted(self) -> None:
        """Let the next worker resume every trial that was interrupted, whoever ran it. Requires the lock.

        If its own worker alone did so, others would have run new ones in its place before it could.
        """
        fail_stale_trials(self.study)
        trials = self._trials()
        followed = retried(trials)
        for trial in trials:
            is_running = trial.state == TrialState.RUNNING
            is_unclaimed = is_running and trial.user_attrs.get("claim") != trial.number  # and has no heartbeat
            is_own = is_running and self._claimed is not None and trial.number == self._claimed.number
            is_lost = trial.state == TrialState.FAIL and not has_failed(trial) and trial.number not in followed
            if is_own or is_lost:
                print(f"trial {original_number(trial)}  is resumed: it was interrupted", flush=True)
            if is_unclaimed or is_own or is_lost:
                self._retry(trial.number)

    def _run_next(self) -> None:
        """Run the waiting trial."""
        self._claimed = None
        try:
            self.study.optimize(self._objective, n_trials=1, catch=(TrialFailedError,), callbacks=[self._report])
        except Interrupted as interrupted:
            assert self._claimed is not None
            self.storage.patience = 0
            with suppress(StorageError), self.storage.failing_clearly(), self.storage.locked():
                if self._is_running(self._claimed):  # if the storage is away, missing heartbeats tell the other workers
                    self._retry(self._claimed.number)
            raise Interrupted(interrupted.received, f" in trial {original_number(self._claimed)}") from interrupted
        except Exception:  # Optuna raises several if the trial was taken over
            if self._claimed is None or not self._is_taken_over(self._claimed.number):
                raise
            print(f"trial {original_number(self._claimed)}  was taken over by another worker", flush=True)

    def _objective(self, trial: Trial) -> float:
        """Claim a trial, run it, and return its best value."""
        settings = self.task.suggest(trial)
        folder = self.folder.absolute() / f"trial-{original_number(trial):04}"
        for name, value in {"settings": settings, "folder": str(folder), "host": socket.gethostname()}.items():
            trial.set_user_attr(name, value)
        study = self.backend.get_study_id_from_name(self.study.study_name)
        self.backend.record_heartbeat(self.backend.get_trial_id_from_study_id_trial_number(study, trial.number))
        trial.set_user_attr("claim", trial.number)  # after the first heartbeat: missing ones are noticed now
        self._claimed = trial
        self._locking.close()
        self._deferring.close()
        try:
            return self._train(trial, folder, trial_process.command(self.config, self.flags, settings))
        except (TrialFailedError, TrialPruned, UserError) as error:
            if message := str(error):
                trial.set_user_attr("error", message)
            raise

    def _train(self, trial: Trial, folder: Path, arguments: Sequence[str]) -> float:
        folder.mkdir(parents=True, exist_ok=True)
        with _exclusive(trial, folder):
            is_new, started = trial_process.newest_run(folder) is None, time.monotonic()
            with trial_process.start(arguments, folder) as process:
                status = self._follow(trial, process, folder)
        run = trial_process.newest_run(folder)
        if self.records is not None and run is not None and status in (0, DIVERGED_STATUS):
            seconds, mode = time.monotonic() - started if is_new else None, self.fit_config["checkpoints"]["mode"]
            row = record(run, self.monitor, mode, seconds, status == DIVERGED_STATUS)
            trial.set_user_attr("record", row)  # with its trial, so that any worker can write it
        if status == DIVERGED_STATUS:
            self._end_diverged(trial, trial_process.error_message(status, folder))
        if status != 0:
            message = trial_process.error_message(status, folder)
            raise UserError(message) if status == UserError.exit_status else TrialFailedError(message)
        values = self._values(run)
        if run is None or not run.read_metric(self.monitor):
            raise TrialFailedError(f"there is no {self.monitor}, because nothing was validated")
        if not values:
            self._end_diverged(trial, f"{self.monitor} is NaN or infinite in every validation")
        trial.set_user_attr("config", run.read_config())
        trial.set_user_attr("test", tested(run))
        best = max if self.study.direction == StudyDirection.MAXIMIZE else min
        return best(value for _, value in values)

    def write_records(self) -> None:
        """Write the rows of all seeds that have ended, also of other workers, into the file of the records."""
        if self.records is not None:
            ended = [trial for trial in self._trials() if trial.state in ENDED and "record" in trial.user_attrs]
            with locked(self.folder):
                self.records.add({t.user_attrs["settings"]["seed_everything"]: t.user_attrs["record"] for t in ended})

    def _end_diverged(self, trial: Trial, message: str) -> NoReturn:
        """End a trial that has diverged, a result of its settings: samplers learn from pruned trials, not from failed.

        Of these, one that violates a constraint is the worst, whatever it had reached.
        """
        trial.set_constraint(DIVERGED, 1.0)
        raise TrialPruned(message)

    def _follow(self, trial: Trial, process: "subprocess.Popen[bytes]", folder: Path) -> int:
        """Report every value of the metric until the process ends, and return its exit status.

        Raises:
            TrialPruned: If the trial is not promising, even if it has just ended, so that pruning does not depend on
                timing.
            UpdateFinishedTrialError: If another worker has taken the trial over.
        """
        reported, checked = 0, time.monotonic()
        while True:
            status = process.poll()  # before the values are read, so that the last ones are not missed
            run = trial_process.newest_run(folder)
            for epoch, value in self._values(run)[reported:]:
                trial.report(value, reported)
                reported += 1
                if trial.should_prune() and not _is_last(run, epoch):  # in the last epoch, it would save little
                    raise TrialPruned
            if status is not None:
                return status
            if time.monotonic() - checked > (self.backend.get_heartbeat_interval() or 0):
                checked = time.monotonic()
                if not self._is_running(trial):
                    raise UpdateFinishedTrialError
            time.sleep(POLL)

    def _values(self, run: Run | None) -> list[tuple[int, float]]:
        """Return the epoch and the value of every validation of a run so far."""
        values = [] if run is None else run.read_metric(self.monitor)
        return [(epoch, value) for epoch, value in values if math.isfinite(value)]

    def _report(self, study: Study, trial: FrozenTrial) -> None:
        write_tables(study, self.folder, self.fit_config)
        self.write_records()
        print(trial_line(trial, self.monitor), flush=True)

    def _is_running(self, trial: Trial) -> bool:
        return self._trials()[trial.number].state == TrialState.RUNNING

    def _is_taken_over(self, attempt: int) -> bool:
        """Whether another worker has found the heartbeats of a trial missing, and queued it again."""
        return attempt in retried(self._trials())


def _is_last(run: Run | None, epoch: int) -> bool:
    return run is not None and run.read_config()["trainer"]["max_epochs"] == epoch + 1


@contextmanager
def _exclusive(trial: Trial, folder: Path) -> Iterator[None]:
    """Wait until no other worker uses the folder of a trial: one whose heartbeats are missing may only be suspended."""
    lock = FileLock(folder / ".lock")
    try:
        held = lock.acquire(timeout=POLL)
    except Timeout:
        print(f"trial {original_number(trial)}  waits for the worker that still uses its folder", flush=True)
        held = lock.acquire()
    with held:
        yield
