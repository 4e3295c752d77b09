"""A sweep: trials that any number of workers share, each of which is done once, whoever dies on the way."""

import logging
import socket
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from lightning_cnn.errors import Interrupted, UserError
from lightning_cnn.sweep import trial_process as processes
from lightning_cnn.sweep.outcome import Outcome, line_of, outcome_of
from lightning_cnn.sweep.space import Value
from lightning_cnn.sweep.storage import Storage, retry
from lightning_cnn.sweep.tasks import ENDED, Repetition, Search, SweepError, has_failed

#: Seconds between two looks at a trial, and between two at what other workers do.
POLL = 0.2
WAIT = 1


class Worker:
    """Does trials of a sweep until as many have ended as were asked for, over all workers.

    Args:
        storage: What the workers share.
        name: The name of the sweep.
        folder: Its folder, for the runs of this worker.
        task: What to do.
        config: The config of all trials.
        flags: The flags of `fit` for all trials.
        purpose: All that makes this sweep what it is, in plain types; a sweep goes on only with the same. The keys say
            what it was begun with if it was something else.

    Raises:
        UserError: If the storage has a sweep of this name for another purpose.
        StorageError: If it cannot be reached.
    """

    def __init__(
        self,
        storage: Storage,
        name: str,
        folder: Path,
        task: Search | Repetition,
        config: Path,
        flags: Sequence[str],
        purpose: Mapping[str, Any],
    ) -> None:
        _quieten()
        self.storage, self.folder, self.task = storage, folder.absolute(), task
        self.config, self.flags = config, flags
        with storage.failing_clearly(), storage.locked():
            self._backend: RDBStorage = storage.open()
            self.study = _open(self._backend, storage, name, task, purpose)
            self._failed_before = {trial.number for trial in self._trials() if has_failed(trial)}

    def run(self) -> None:
        """Work until the sweep has ended.

        Raises:
            UserError: If `fit` refuses the settings of a trial.
            SweepError: If trials fail one after the other.
            StorageError: If the storage fails.
            Interrupted: If a signal has come; the trial waits for the next worker.
        """
        told = False
        while True:
            with self.storage.failing_clearly():
                with self.storage.locked():
                    claimed = self._claim()
                    is_over = claimed is None and not self._with_state(TrialState.RUNNING)
                if claimed is not None:
                    self._work(*claimed)
                elif is_over:
                    return
                elif not told:
                    told = True
                    print("Waiting for the trials of other workers", flush=True)
            if claimed is None:
                time.sleep(WAIT)

    def require_complete(self) -> None:
        """Refuse to take the sweep for complete if fewer trials have ended than were asked for.

        Raises:
            SweepError: If runs of a repetition have failed; a search makes up for them.
        """
        missing = self.task.n_trials - len(self._with_state(*ENDED))
        if missing > 0:
            raise SweepError(f"{missing} of {self.task.n_trials} trials have failed; the same command tries them again")

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _with_state(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials that were asked for, in one of these states."""
        return [trial for trial in self._trials() if trial.state in states and self.task.counts(trial)]

    def _claim(self) -> tuple[Trial, dict[str, Value]] | None:
        """Take a trial, and choose its settings, if there is one left; for whoever holds the lock."""
        fail_stale_trials(self.study)
        self._retry_unclaimed()
        if len(self._with_state(*ENDED, TrialState.RUNNING)) >= self.task.n_trials:
            return None
        self.task.prepare(self.study, self._failed_before)
        if not self.task.makes_trials and not self._with_state(TrialState.WAITING):
            return None
        number = self._next_number()
        self.study.sampler = self.task.sampler(number)
        trial = self.study.ask()
        settings = self.task.suggest(trial)
        attributes = {
            "number": number,
            "folder": str(self.folder / f"trial-{number:04}"),
            "host": socket.gethostname(),
            "settings": settings,
        }
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        self._backend.record_heartbeat(trial._trial_id)
        trial.set_user_attr("claim", trial.number)  # the last: from now on, the heart beats
        return trial, settings

    def _next_number(self) -> int:
        """The number of the trial that `ask` will give: among all that are no second tries, for it keeps its number."""
        trials = self._trials()
        waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
        first = [*_history(waiting[0]), waiting[0].number][0] if waiting else len(trials)
        return sum(not _history(trial) for trial in trials[:first])

    def _retry_unclaimed(self) -> None:
        """Try trials again whose worker died while it took them: before its heart beat, so that nobody would miss it.

        Whoever lives sets the claim of a trial before the lock is let go.
        """
        for trial in self._trials():
            if trial.state == TrialState.RUNNING and trial.user_attrs.get("claim") != trial.number:
                self._put_back(trial.number)

    def _put_back(self, number: int) -> None:
        """Let the next worker go on with a trial; for whoever holds the lock."""
        self.study.tell(number, state=TrialState.FAIL)
        retry(self.study, self._trials()[number])

    def _work(self, trial: Trial, settings: Mapping[str, Value]) -> None:
        """Do a trial, and tell what became of it."""
        began = time.monotonic()
        folder = Path(trial.user_attrs["folder"])
        words = processes.command(self.config, self.flags, settings)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._alone(trial, folder), processes.TrialProcess(words, folder) as process:
                was_pruned = self._follow(trial, process, folder)
                process.stop()
            outcome = outcome_of(process, folder, was_pruned)
            with self.storage.locked():
                self._require_mine(trial)
                self._tell(trial, outcome, round(time.monotonic() - began, 1))
        except UpdateFinishedTrialError:
            print(f"trial {trial.user_attrs['number']}  was taken over by another worker", flush=True)
        except Interrupted as interrupted:
            with self.storage.locked():
                if self._is_mine(trial):
                    self._put_back(trial.number)
            note = f"; trial {trial.user_attrs['number']} goes on with the same command"
            raise Interrupted(interrupted.received, note) from interrupted
        else:
            if outcome.is_refused:
                raise UserError(outcome.attributes["error"])

    @contextmanager
    def _alone(self, trial: Trial, folder: Path) -> Iterator[None]:
        """Wait until nobody else works in a trial's folder: who was taken for dead may only have slept."""
        lock = FileLock(folder / ".lock")
        with suppress(Timeout):
            lock.acquire(timeout=POLL)
        if not lock.is_locked:
            print(f"trial {trial.user_attrs['number']}  waits for the worker that still has its folder", flush=True)
        while not lock.is_locked:
            with suppress(Timeout):
                lock.acquire(timeout=WAIT)
            self._beat(trial)
        try:
            yield
        finally:
            lock.release()

    def _follow(self, trial: Trial, process: processes.TrialProcess, folder: Path) -> bool:
        """Report the accuracies of a trial until it ends or is not worth going on with; return whether it is not."""
        reported, last_beat = 0, time.monotonic()
        while True:
            status = process.wait(POLL)  # first, so that nothing of its last moments is missed
            run = processes.run_folder(folder)
            for epoch, accuracy in processes.accuracies(run)[reported:] if run else ():
                trial.report(accuracy, reported)
                reported += 1
                if not _is_last(reported, epoch, run) and trial.should_prune():
                    return True  # even if it is just over: chance must not choose what later trials go by
            if status is not None:
                return False
            if time.monotonic() - last_beat > (self._backend.heartbeat_interval or 0):
                self._beat(trial)
                last_beat = time.monotonic()

    def _beat(self, trial: Trial) -> None:
        """Give a sign of life.

        Raises:
            UpdateFinishedTrialError: If it came too late, and the trial is another worker's.
        """
        self._require_mine(trial)
        self._backend.record_heartbeat(trial._trial_id)

    def _is_mine(self, trial: Trial) -> bool:
        """Whether nobody has taken the trial from this worker: then it would have failed."""
        return self._trials()[trial.number].state == TrialState.RUNNING

    def _require_mine(self, trial: Trial) -> None:
        if not self._is_mine(trial):
            raise UpdateFinishedTrialError

    def _tell(self, trial: Trial, outcome: Outcome, seconds: float) -> None:
        """Keep what became of a trial, and print it; for whoever holds the lock."""
        attributes = {**outcome.attributes, "seconds": seconds}
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        self.study.tell(trial, outcome.accuracy, outcome.state)
        print(line_of(self._trials()[trial.number]), flush=True)


def _history(trial: FrozenTrial) -> list[int]:
    """The earlier tries of a trial, by the numbers that Optuna gave them."""
    history: list[int] = trial.system_attrs.get("retry_history", [])
    return history


def _is_last(validation: int, epoch: int, run: Path | None) -> bool:
    """Whether this validation, counted from 1, is the last of a run, so that stopping it saves nothing."""
    assert run is not None
    trainer = processes.read_config(run)["trainer"]
    interval = trainer.get("val_check_interval")
    # A share of an epoch; batches, and times, are taken for one epoch.
    each_epoch = int(1 / interval) if isinstance(interval, float) and 0 < interval < 1 else 1
    return epoch + 1 == trainer["max_epochs"] and validation % each_epoch == 0


def _open(
    backend: RDBStorage, storage: Storage, name: str, task: Search | Repetition, purpose: Mapping[str, Any]
) -> optuna.Study:
    """Return the study of a name, new or for the same purpose; for whoever holds the lock."""
    study = optuna.create_study(
        storage=backend, study_name=name, direction="maximize", load_if_exists=True, pruner=task.pruner()
    )
    known, trials = study.user_attrs, study.get_trials(deepcopy=False)
    if "purpose" not in known and trials:
        raise UserError(f"{storage} has a study {name!r} that is no sweep; choose another --name")
    changed = [words for words, value in purpose.items() if "purpose" in known and known["purpose"].get(words) != value]
    if changed and (not trials or any(trial.state in (*ENDED, TrialState.RUNNING) for trial in trials)):
        raise UserError(
            f"the sweep {name!r} in {storage} was begun with {changed[0]}; give the same again, or another --name"
        )
    if changed:  # nothing has come of it but failures: it may have been a mistake
        optuna.delete_study(study_name=name, storage=backend)
        return _open(backend, storage, name, task, purpose)
    study.set_user_attr("kind", task.kind)
    study.set_user_attr("purpose", dict(purpose))
    return study


def _quieten() -> None:
    """Silence Optuna, which logs every trial, and its warnings of what is tried here."""
    optuna.logging.set_verbosity(logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # heartbeats, and groups of settings
    warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used")  # here, the worker beats
