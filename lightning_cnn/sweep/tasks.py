"""What a sweep does: it searches for settings, or it repeats a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from lightning_cnn.errors import UserError
from lightning_cnn.sweep.space import Space, Value

#: How many trials may fail one after the other until a search gives up: the data may be missing, or the disk full.
MAX_FAILURES = 5
#: Whether a trial has ended in its own right.
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


class SweepError(UserError):
    """Trials have failed; the command itself was sound."""

    exit_status = 1


@dataclass(frozen=True)
class Search:
    """Look for the best settings in a space.

    Args:
        space: What trials choose from.
        n_trials: How many trials shall end, complete or pruned, over all workers.
        seed: Where the choice of settings starts.
    """

    space: Space
    n_trials: int
    seed: int = 0
    kind = "search"
    makes_trials = True

    def pruner(self) -> BasePruner:
        """What stops a trial early: the median rule.

        It compares a trial with others at the same validation, which is all that trials of a few epochs give, and asks
        for no budget as successive halving does. The first five trials are its measure; the first validation of a trial
        decides nothing, because a slow start says little about its end.
        """
        return MedianPruner(n_startup_trials=5, n_warmup_steps=1)

    def sampler(self, number: int) -> BaseSampler:
        """What chooses the settings of a trial: TPE, for settings that depend on each other.

        In groups, because some settings are there only for some choices. Trials that still run count as bad ones, so
        that workers do not try the same at once. Each trial has a seed of its own: one worker alone comes to the same
        trials again, however often it is stopped, and several do not begin with the same.
        """
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)

    def counts(self, trial: FrozenTrial) -> bool:
        """Whether a trial is one of those that were asked for."""
        return True

    def prepare(self, study: optuna.Study, failed_before: set[int]) -> None:
        """See whether the search should go on.

        Raises:
            SweepError: If too many trials have failed one after the other.
        """
        known = study.get_trials(deepcopy=False)
        last = max((trial.number for trial in known if trial.state in ENDED), default=-1)
        failures = [trial for trial in known if has_failed(trial) and trial.number not in failed_before]
        failures = [trial for trial in failures if trial.number > last]
        if len(failures) >= MAX_FAILURES:
            reason = failures[-1].user_attrs["error"]
            raise SweepError(f"{len(failures)} trials in a row have failed, the last one so: {reason}")

    def suggest(self, trial: Trial) -> dict[str, Value]:
        """Choose the settings of a trial."""
        return self.space.suggest(trial)


@dataclass(frozen=True)
class Repetition:
    """Repeat one run with other seeds, or on other folds.

    Args:
        plan: The settings of each run.
    """

    plan: Sequence[Mapping[str, Value]]
    kind = "repeat"
    makes_trials = False

    @property
    def n_trials(self) -> int:
        """How many trials shall end."""
        return len(self.plan)

    def pruner(self) -> BasePruner:
        """Nothing is stopped early: all runs are wanted."""
        return NopPruner()

    def sampler(self, number: int) -> BaseSampler:
        """Nothing is chosen."""
        return RandomSampler()

    def counts(self, trial: FrozenTrial) -> bool:
        """Whether a trial is one of those that were asked for."""
        return trial.user_attrs.get("settings") in self.plan

    def prepare(self, study: optuna.Study, failed_before: set[int]) -> None:
        """Enqueue the runs that are not there yet, and those that failed before this command."""
        known = study.get_trials(deepcopy=False)
        there = [
            trial.user_attrs.get("settings")
            for trial in known
            if trial.state != TrialState.FAIL or (has_failed(trial) and trial.number not in failed_before)
        ]
        for settings in self.plan:
            if settings not in there:
                study.enqueue_trial({}, user_attrs={"settings": dict(settings)})

    def suggest(self, trial: Trial) -> dict[str, Value]:
        """Return the settings of a trial."""
        settings: dict[str, Value] = trial.user_attrs["settings"]
        return settings


def has_failed(trial: FrozenTrial) -> bool:
    """Whether a trial has failed by itself; of those whose worker was stopped or died, another one goes on with it."""
    return trial.state == TrialState.FAIL and "error" in trial.user_attrs
