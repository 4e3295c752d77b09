"""The two tasks of a sweep: search a space for the best settings, or repeat a run over seeds and folds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from optuna.pruners import MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState

from lightning_cnn.errors import UserError
from lightning_cnn.sweep.space import Space
from lightning_cnn.sweep.trial_process import Value

#: The number of failed trials in a row that end a search: the data may be missing, or the disk full.
MAX_FAILURES = 5
#: The constraint of Optuna that a diverged trial violates.
DIVERGED = "diverged"
#: States of the trials that count towards the number of trials.
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


class SweepError(UserError):
    """Trials have failed; the command itself was right."""

    exit_status = 1


@dataclass(frozen=True)
class Search:
    """Search a space for the best settings.

    Args:
        space: What trials choose from.
        n_trials: Number of trials that end, complete, pruned or diverged, over all workers.
        seed: Seed of the sampler, at least 0.

    `pruner` is the median rule, which compares trials at the same validation and needs no budget. The first five trials
    are not pruned, nor is a trial at its first validation, because a slow start says little about its end.
    """

    space: Space
    n_trials: int
    seed: int = 0
    kind = "search"
    pruner = MedianPruner(n_startup_trials=5, n_warmup_steps=1)

    def sampler(self, number: int) -> BaseSampler:
        """Return the sampler of a trial: TPE, multivariate and grouped, because settings depend on each other.

        Running trials count as bad ones (`constant_liar`), so that concurrent workers do not choose the same settings.
        The seed depends on the number of the trial, so that interruptions do not change the trials of a single worker.
        """
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)

    def counts(self, trial: FrozenTrial) -> bool:
        """Whether a trial of the study is one of the task: always."""
        return True

    def next_trial(self, trials: Sequence[FrozenTrial]) -> dict[str, Value] | None:
        """Return the settings of the next trial that are not sampled: none.

        Args:
            trials: The trials of the study, without those that failed before this command.

        Raises:
            SweepError: If the last `MAX_FAILURES` trials have failed.
        """
        last = max((n for n, trial in enumerate(trials) if trial.state in ENDED), default=-1)
        if len(failures := [trial for trial in trials[last + 1 :] if has_failed(trial)]) >= MAX_FAILURES:
            raise SweepError(f"the last {len(failures)} trials have failed: {failures[-1].user_attrs['error']}")
        return {}

    def suggest(self, trial: Trial) -> dict[str, Value]:
        """Return the settings of a trial."""
        return self.space.suggest(trial)


@dataclass(frozen=True)
class Repetition:
    """Repeat a run with other seeds or on other folds; nothing is sampled or pruned.

    Args:
        plan: The settings of each run.
    """

    plan: Sequence[dict[str, Value]]
    kind = "repeat"
    pruner = NopPruner()

    @property
    def n_trials(self) -> int:
        """Number of runs."""
        return len(self.plan)

    def sampler(self, number: int) -> BaseSampler:
        """Return any sampler."""
        return RandomSampler()

    def counts(self, trial: FrozenTrial) -> bool:
        """Whether a trial of the study is a run of the plan; an earlier command may have had a longer plan."""
        return trial.user_attrs.get("settings") in self.plan

    def next_trial(self, trials: Sequence[FrozenTrial]) -> dict[str, Value] | None:
        """Return the settings of the next run; None if all have been started.

        Args:
            trials: The trials of the study, without those that failed before this command, so that these are repeated.
        """
        tried = [
            trial.user_attrs["settings"] for trial in trials if trial.state != TrialState.FAIL or has_failed(trial)
        ]
        return next((settings for settings in self.plan if settings not in tried), None)

    def suggest(self, trial: Trial) -> dict[str, Value]:
        """Return the settings of a trial."""
        settings: dict[str, Value] = trial.user_attrs["settings"]
        return settings


def repetitions(seeds: int | None, folds: int | None) -> list[dict[str, Value]]:
    """Return the settings of each run when a config is repeated over seeds, folds or both.

    Args:
        seeds: Number of seeds, from 0 on; None for the seed of the config.
        folds: Number of folds; None for the usual validation images.

    Example:
        >>> repetitions(2, None)
        [{'seed_everything': 0}, {'seed_everything': 1}]
    """
    of_seeds: list[dict[str, Value]] = [{"seed_everything": n} for n in range(seeds or 0)] or [{}]
    of_folds: list[dict[str, Value]] = [{"data.folds": folds, "data.fold": n} for n in range(folds or 0)] or [{}]
    return [{**seed, **fold} for seed in of_seeds for fold in of_folds]


def has_failed(trial: FrozenTrial) -> bool:
    """Whether a trial has failed. If its worker died or was stopped, it has no error, and is resumed."""
    return trial.state == TrialState.FAIL and "error" in trial.user_attrs


def has_diverged(trial: FrozenTrial) -> bool:
    """Whether the training of a trial has diverged: a result, and for a search the worst one."""
    return DIVERGED in trial.constraints


def retried(trials: Sequence[FrozenTrial]) -> set[int]:
    """Return the attempts at trials that were interrupted, and are followed by another attempt."""
    return {attempt for trial in trials for attempt in RetryHeartbeatStaleTrialCallback.retry_history(trial)}


def original_number(trial: FrozenTrial | Trial) -> int:
    """Return the number of a trial in the sweep, the same for every attempt at it; Optuna numbers the attempts."""
    number: int = trial.user_attrs["number"]
    return number
