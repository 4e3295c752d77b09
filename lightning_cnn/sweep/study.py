"""The study of a sweep: Optuna's record of its trials, created or opened again for the same purpose."""

import json
import logging
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from lightning_cnn.errors import UserError
from lightning_cnn.sweep.storage import Storage
from lightning_cnn.sweep.tasks import ENDED, Repetition, Search, has_diverged


def open_study(
    storage: Storage,
    name: str,
    task: Search | Repetition,
    monitor: str,
    mode: Literal["min", "max"],
    purpose: Mapping[str, Any],
) -> tuple[optuna.Study, RDBStorage]:
    """Create the study of a sweep, or open it again, and return it with Optuna's storage.

    Args:
        storage: Where it is.
        name: Its name.
        task: The task of the sweep.
        monitor: The metric of its trials.
        mode: Whether this is to be minimized or maximized.
        purpose: All that defines the sweep, in plain types, by its name in messages. A study is opened again only
            for the same purpose.

    Raises:
        UserError: If the storage has a study of this name for another purpose.
        StorageError: If the storage fails.
    """
    purpose = json.loads(json.dumps(purpose))  # as the storage returns it: keys of mappings are text
    optuna.logging.set_verbosity(logging.ERROR)  # the worker reports its trials
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # of heartbeats and groups of settings
    with storage.failing_clearly(), storage.locked():
        backend = storage.open()
        create = partial(
            optuna.create_study,
            storage=backend,
            study_name=name,
            direction=StudyDirection.MINIMIZE if mode == "min" else StudyDirection.MAXIMIZE,
            pruner=task.pruner,
        )
        study = create(load_if_exists=True)
        known, trials = study.user_attrs, study.get_trials(deepcopy=False)
        if "purpose" not in known and trials:
            raise UserError(f"{storage} has a study {name!r} that is not a sweep; choose another --name")
        changed = [key for key, value in purpose.items() if "purpose" in known and known["purpose"].get(key) != value]
        kept = [trial for trial in trials if trial.state in (*ENDED, TrialState.RUNNING) and not has_diverged(trial)]
        if changed and (kept or not trials):
            raise UserError(
                f"the sweep {name!r} in {storage} was started with {changed[0]}; give the same again, or another --name"
            )
        if changed:  # all of its trials have failed or diverged, perhaps because of a mistake that is corrected now
            optuna.delete_study(study_name=name, storage=backend)
            study = create()
        study.set_user_attr("kind", task.kind)
        study.set_user_attr("purpose", purpose)
        study.set_metric_names([monitor])
    return study, backend
