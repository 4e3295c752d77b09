import csv
import math
import signal
from pathlib import Path

import optuna
import pytest
from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sweep import scenario
from sweep.program import SETTINGS

from lightning_cnn.errors import UserError
from lightning_cnn.sweep.records import Records, has_no_metrics
from lightning_cnn.sweep.space import build_space
from lightning_cnn.sweep.storage import Storage
from lightning_cnn.sweep.study import open_study
from lightning_cnn.sweep.tasks import Repetition, Search, SweepError, repetitions
from lightning_cnn.sweep.trial_main import DIVERGED
from lightning_cnn.sweep.worker import Worker

LR = {"model.optimizer.lr": {"from": 1e-4, "to": 1.0, "log": True}}
MAYBE_BROKEN = {
    "stub.kind": ["working", "broken"],
    "stub.dies": {"choices": [1, 2, DIVERGED, -9], "if": {"stub.kind": "broken"}},
}
BROKEN = {"stub.kind": "broken"}
WORKING = {"stub.kind": "working"}
GOOD, BAD = {"model.optimizer.lr": 0.01}, {"model.optimizer.lr": 1.0}


@pytest.fixture
def make_worker(_stubs, tmp_path):
    """Make a worker of a sweep with stubs of trials."""

    def make(task, *flags, name="sweep", purpose=(), monitor="val/acc", mode="max"):
        tmp_path.joinpath(name).mkdir(exist_ok=True)
        storage = Storage(f"sqlite:///{tmp_path}/{name}/study.db")
        study, backend = open_study(storage, name, task, monitor, mode, dict(purpose))
        return Worker(storage, study, backend, tmp_path / name, task, Path("cnn.yaml"), flags, SETTINGS)

    return make


@pytest.fixture
def search(make_worker):
    """Search a space to the end, with some trials given, and return the worker."""

    def run(space, n_trials, *flags, given=(), seed=0, **options):
        worker = make_worker(Search(build_space(space, "space.yaml"), n_trials, seed), *flags, **options)
        for number, settings in enumerate(given, len(worker.study.trials)):
            worker.study.enqueue_trial(settings, user_attrs={"number": number})
        worker.run()
        return worker

    return run


def chosen(worker) -> list:
    return [trial.params for trial in worker.study.trials]


def states(worker) -> list[str]:
    return [trial.state.name for trial in worker.study.trials]


def test_a_search_runs_the_requested_number_of_trials(search, tmp_path, capsys):
    worker = search(LR, 2, given=[GOOD])

    first = worker.study.trials[0]
    assert states(worker) == ["COMPLETE", "COMPLETE"]
    assert first.value == pytest.approx(0.9 * (1 - 0.5**3))
    assert first.intermediate_values == pytest.approx({n: 0.9 * (1 - 0.5 ** (n + 1)) for n in range(3)})
    assert first.user_attrs["settings"] == GOOD
    assert first.user_attrs["folder"] == str(tmp_path / "sweep" / "trial-0000")
    assert first.user_attrs["config"]["model"] == {"lr": 0.01}
    assert worker.study.metric_names == ["val/acc"]
    with (tmp_path / "sweep/results.csv").open() as file:  # written after each trial: not all workers come to their end
        assert [row["state"] for row in csv.DictReader(file)] == ["complete", "complete"]
    assert (tmp_path / "sweep/best.yaml").is_file()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("trial 0  complete  val/acc 78.75 %  lr=0.01  ")
    assert len(lines) == 2


def test_the_value_of_a_trial_is_its_highest_accuracy(search, tmp_path):
    run = tmp_path / "sweep" / "trial-0000" / "mnist-cnn" / "version_0"
    run.mkdir(parents=True)
    (run / "metrics.csv").write_text("epoch,step,train/loss,val/acc\n0,10,0.5,\n0,10,,0.95\n1,20,,0.5\n2,30,,0.25\n")

    assert search(LR, 1).study.trials[0].value == 0.95


def test_the_same_command_runs_only_missing_trials(search, capsys):
    search(LR, 1)
    assert len(search(LR, 1).study.trials) == 1
    capsys.readouterr()

    assert len(search(LR, 3).study.trials) == 3
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_trials_of_one_worker_depend_on_the_seed_and_not_on_interruptions(search):
    space = {**LR, "data.batch_size": [32, 64], "stub.word": {"choices": ["a", "b"], "if": {"data.batch_size": 64}}}
    at_once = search(space, 12, name="once")
    killed = search(space, 5, name="parts").study
    killed.enqueue_trial({}, user_attrs={"number": 5})
    with pytest.warns(UserWarning, match="Heartbeat"):
        killed.ask()  # and is killed here
    in_parts = search(space, 12, name="parts")
    other = search(space, 2, seed=1, name="other")

    tries = [trial for trial in in_parts.study.trials if trial.state.name != "FAIL"]
    assert [trial.params for trial in tries] == chosen(at_once)
    assert [trial.state.name for trial in tries] == states(at_once)
    assert [trial.user_attrs["number"] for trial in tries] == [*range(12)]
    assert chosen(at_once)[:2] != chosen(other)
    assert len({trial["model.optimizer.lr"] for trial in chosen(at_once)}) == 12


def test_a_bad_trial_is_pruned_early_and_its_process_ends(search, request, tmp_path):
    search(LR, 5, "--trainer.max_epochs=9", given=[GOOD] * 5)
    request.getfixturevalue("_stub_processes")
    worker = search(LR, 6, "--trainer.max_epochs=9", "--stub.seconds=0.3", given=[BAD])

    last = worker.study.trials[-1]
    assert states(worker) == ["COMPLETE"] * 5 + ["PRUNED"]
    assert [*last.intermediate_values] == [0, 1]  # the first decides nothing
    folder = tmp_path / "sweep" / "trial-0005"
    assert "stopped by SIGTERM" in (folder / "stderr.txt").read_text()
    assert not scenario.is_alive(int((folder / "process").read_text().split()[0]))


def test_a_trial_in_its_last_epoch_is_not_pruned(search):
    worker = search(LR, 6, "--trainer.max_epochs=2", given=[*[GOOD] * 5, BAD])

    assert states(worker) == ["COMPLETE"] * 6


def test_a_sweep_without_results_may_be_started_with_other_settings(make_worker):
    task = Repetition(repetitions(2, None))
    first = make_worker(task, "--stub.dies=1", purpose={"another --config": 1})
    first.run()

    assert states(first) == ["FAIL"] * 2
    again = make_worker(task, purpose={"another --config": 2})
    again.run()

    assert states(again) == ["COMPLETE"] * 2


def test_the_metric_and_its_direction_are_those_of_the_config(search):
    worker = search(LR, 2, given=[GOOD, BAD], monitor="val/loss", mode="min")

    assert [trial.value for trial in worker.study.trials] == pytest.approx([0.1 + 0.9 / 8, 0.3 + 0.7 / 8])
    assert worker.study.best_trial.params == GOOD


def test_a_metric_that_no_run_logs_is_an_error(search):
    with pytest.raises(SweepError, match="there is no val/f1, because nothing was validated"):
        search(LR, 1, monitor="val/f1")


@pytest.mark.parametrize(
    ("settings", "flag", "reason"),
    [
        ({**BROKEN, "stub.dies": DIVERGED}, "--stub.message=lightning-cnn: error: NaN in the loss", "NaN in the loss"),
        (WORKING, "--stub.value=nan", "val/acc is NaN or infinite in every validation"),
    ],
)
def test_a_trial_that_diverges_is_one_of_the_trials_and_has_no_value(search, capsys, tmp_path, settings, flag, reason):
    worker = search(MAYBE_BROKEN, 1, flag, given=[settings])

    (trial,) = worker.study.trials
    assert (trial.state.name, trial.constraints, trial.user_attrs["error"]) == ("PRUNED", {"diverged": 1}, reason)
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("trial 0  diverged  kind=") and line.endswith(f"  {reason}")
    with (tmp_path / "sweep/results.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["state"], row["val/acc"], row["error"]) == ("diverged", "", reason)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_search_avoids_settings_with_which_trials_diverge():
    task, study = Search(build_space(LR, "space.yaml"), 30), optuna.create_study(direction="maximize")
    for number in range(30):
        study.sampler = task.sampler(number)
        trial = study.ask()
        lr = task.suggest(trial)["model.optimizer.lr"]
        trial.report(0.99, 0)
        if lr > 0.01:
            trial.set_constraint("diverged", 1.0)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, 0.9 - 0.1 * abs(math.log10(lr) + 3))

    has_diverged = ["diverged" in trial.constraints for trial in study.trials]
    assert (sum(has_diverged[:10]), sum(has_diverged[20:])) == (6, 0)  # at random; failed trials would make it (6, 10)


def test_runs_of_a_repetition_that_diverge_are_not_tried_again(make_worker):
    task = Repetition(repetitions(2, None))
    for _ in range(2):
        worker = make_worker(task, f"--stub.dies={DIVERGED}", "--stub.message=NaN in the loss")
        worker.run()
        with pytest.raises(SweepError, match=r"^all 2 trials have diverged: NaN in the loss$"):
            worker.require_complete()

    assert states(worker) == ["PRUNED"] * 2
    other = make_worker(task, purpose={"other flags for `fit`": ["--model.optimizer.lr=0.1"]})
    assert other.study.trials == []


@pytest.mark.parametrize(
    ("status", "error"),
    [(1, "the loss is nan"), (-9, "killed by SIGKILL (perhaps out of memory): the loss is nan")],
)
def test_a_failed_trial_is_recorded_and_replaced(search, capsys, status, error):
    worker = search(
        MAYBE_BROKEN,
        1,
        "--stub.message=lightning-cnn: error: the loss is nan",
        given=[{**BROKEN, "stub.dies": status}, WORKING],
    )

    assert states(worker) == ["FAIL", "COMPLETE"]
    assert worker.study.trials[0].user_attrs["error"] == error
    assert "trial 0  failed  val/acc 45.00 %" in (line := capsys.readouterr().out.splitlines()[0])
    assert line.endswith(f"  {error}")


def test_settings_that_fit_refuses_end_the_sweep(search):
    with pytest.raises(UserError, match=r"^batch_size must be at most 150$") as refused:
        search(
            MAYBE_BROKEN,
            2,
            "--stub.message=lightning-cnn: error: batch_size must be at most 150",
            given=[{**BROKEN, "stub.dies": 2}],
        )

    assert refused.value.exit_status == 2


@pytest.mark.parametrize(
    ("flag", "reason"),
    [("--stub.dies=1", "a warning"), ("--trainer.max_epochs=0", "there is no val/acc, because nothing was validated")],
)
def test_a_search_ends_after_five_failures_in_a_row(search, make_worker, flag, reason):
    with pytest.raises(SweepError, match=f"^the last 5 trials have failed: {reason}$") as failed:
        search(LR, 9, flag)

    assert failed.value.exit_status == 1
    with pytest.raises(SweepError):
        search(LR, 9, flag)  # tried again
    assert len(make_worker(Search(build_space(LR, "space.yaml"), 9)).study.trials) == 10


def test_a_trial_of_a_worker_that_died_before_its_first_heartbeat_is_retried(search, make_worker):
    dead = make_worker(Search(build_space(LR, "space.yaml"), 2))
    dead.study.enqueue_trial({}, user_attrs={"number": 0})
    with pytest.warns(UserWarning, match="Heartbeat"):
        dead.study.ask()  # and here it is killed

    worker = search(LR, 2)

    assert states(worker) == ["FAIL", "COMPLETE", "COMPLETE"]
    assert worker.study.trials[1].system_attrs["retry_history"] == [0]


def test_a_repetition_does_each_run_once(make_worker, capsys):
    for n_seeds in (2, 3):
        worker = make_worker(Repetition(repetitions(n_seeds, None)), "--test=true")
        worker.run()
        worker.require_complete()

    assert [trial.user_attrs["settings"] for trial in worker.study.trials] == repetitions(3, None)
    assert [trial.user_attrs["test"]["test/acc"] for trial in worker.study.trials] == [0.5] * 3
    assert worker.study.user_attrs["kind"] == "repeat"
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("trial 2  complete  val/acc 78.75 %  test/acc 50.00 %  seed_everything=2  ")


def test_a_run_of_a_repetition_that_fails_is_resumed_by_the_same_command(make_worker):
    task = Repetition(repetitions(2, None))
    failing = make_worker(task, "--stub.dies=1")
    failing.run()
    with pytest.raises(SweepError, match="2 of 2 trials have failed; the same command tries them again"):
        failing.require_complete()

    fixed = make_worker(task)
    fixed.run()
    fixed.require_complete()

    assert states(fixed) == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]


def test_a_sweep_is_resumed_only_with_the_same_purpose(make_worker):
    task = Repetition(repetitions(2, None))
    make_worker(task, purpose={"another --config": 1, "another --space": 2})

    with pytest.raises(UserError, match=r"the sweep 'sweep' in sqlite:.* was started with another --space; give"):
        make_worker(task, purpose={"another --config": 1, "another --space": 3})


def test_a_config_with_keys_that_are_numbers_is_the_same_again(make_worker):
    task = Repetition(repetitions(2, None))
    purpose = {"another --config": {"scheduling": {0: 4, 8: 2}}}

    make_worker(task, purpose=purpose)
    make_worker(task, purpose=purpose)


def test_a_study_that_is_not_a_sweep_is_refused(make_worker, tmp_path):
    (tmp_path / "sweep").mkdir()
    other = optuna.create_study(storage=f"sqlite:///{tmp_path}/sweep/study.db", study_name="sweep")
    other.add_trial(optuna.create_trial(state=TrialState.COMPLETE, value=1.0))

    with pytest.raises(UserError, match="has a study 'sweep' that is not a sweep; choose another --name"):
        make_worker(Repetition(repetitions(2, None)))
    assert other.user_attrs == {}


def test_a_signal_waits_until_a_trial_is_claimed(search, monkeypatch, tmp_path):
    states_of_the_lock = []

    def handle(signum: int, _: object) -> None:
        with FileLock(tmp_path / "sweep/study.db.lock", timeout=0) as lock:
            states_of_the_lock.append(lock.is_locked)

    def suggest(task, trial, original=Search.suggest):
        signal.raise_signal(signal.SIGTERM)
        assert states_of_the_lock == []
        return original(task, trial)

    monkeypatch.setattr(Search, "suggest", suggest)
    signal.signal(signal.SIGTERM, handle)

    assert states(search(LR, 1)) == ["COMPLETE"]
    assert states_of_the_lock == [True]  # the worker had released it
    assert signal.getsignal(signal.SIGTERM) is handle


def test_a_trial_that_another_worker_lost_is_resumed_before_a_new_one_is_run(search, capsys):
    study = search(LR, 1).study
    study.add_trial(optuna.create_trial(state=TrialState.FAIL, user_attrs={"number": 1}))

    trials = search(LR, 2).study.trials

    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert trials[2].user_attrs["number"] == 1
    assert "trial 1  is resumed: it was interrupted\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "cause",
    [
        DBAPIError("INSERT", {}, Exception("closed"), connection_invalidated=True),
        PendingRollbackError("Can't reconnect until invalid transaction is rolled back.", code="8s2b"),
    ],
    ids=["lost", "lost before"],
)
@pytest.mark.parametrize("method", ["set_trial_intermediate_value", "set_trial_state_values", "_create_new_trial"])
def test_a_connection_that_is_lost_in_a_transaction_is_survived(search, monkeypatch, capsys, method, cause):
    from optuna.storages import RDBStorage

    search(LR, 1)
    lost = []
    original = getattr(RDBStorage, method)

    def lose_once(*args, **options):
        if len(lost) < 1:
            lost.append(cause)
            raise StorageInternalError("closed") from cause
        return original(*args, **options)

    monkeypatch.setattr(RDBStorage, method, lose_once)
    worker = search(LR, 2)

    assert lost
    assert [trial.state.name for trial in worker.study.trials if trial.state != TrialState.FAIL] == ["COMPLETE"] * 2
    interrupted = "trial 1  is resumed: it was interrupted\n" in capsys.readouterr().out
    assert interrupted == (method == "set_trial_intermediate_value")


def test_a_trial_whose_worker_is_killed_is_resumed(tmp_path):
    scenario.run(tmp_path)


def test_a_suspended_worker_loses_its_trial(tmp_path):
    with scenario.start(tmp_path, n_trials=1) as suspended:
        scenario.until(lambda: scenario.trial_of(suspended, tmp_path))
        suspended.send_signal(signal.SIGSTOP)
        scenario.miss_heartbeats(scenario.database(tmp_path), "trial-0000")
        with scenario.start(tmp_path, n_trials=1) as other:
            scenario.read_until(other, "trial 0  waits for the worker that still uses its folder\n")
            suspended.send_signal(signal.SIGCONT)
            scenario.read_until(suspended, "trial 0  was taken over by another worker\n")
            (tmp_path / "go").touch()
            outputs = [worker.communicate(timeout=scenario.TIMEOUT) for worker in (suspended, other)]

    assert [errors for _, errors in outputs] == ["", ""]
    assert [row["state"] for row in scenario.results(tmp_path)] == ["interrupted", "complete"]
    assert not any(scenario.is_alive(process) for process, _ in scenario.processes(tmp_path).values())


def test_the_trial_of_a_stopped_worker_is_resumed_by_the_next(tmp_path):
    with scenario.start(tmp_path, n_trials=1) as stopped:
        scenario.until(lambda: scenario.trial_of(stopped, tmp_path))
        stopped.send_signal(signal.SIGHUP)
        _, errors = stopped.communicate(timeout=scenario.TIMEOUT)
    (process, _) = scenario.processes(tmp_path)["trial-0000"]
    assert stopped.returncode == 128 + signal.SIGHUP
    command = "lightning-cnn sweep --config=cnn.yaml --space=space.yaml --n_trials=1 --stub.waits=true"
    assert errors == f"lightning-cnn: stopped by SIGHUP in trial 0; resume with: {command}\n"
    assert not scenario.is_alive(process)
    assert [row["state"] for row in scenario.results(tmp_path)] == ["interrupted", "waiting"]

    (tmp_path / "go").touch()
    with scenario.start(tmp_path, n_trials=1) as other:  # at once: no heartbeat need be missed first
        printed, errors = other.communicate(timeout=scenario.TIMEOUT)

    assert (other.returncode, errors) == (0, "")
    assert "Waiting" not in printed
    assert [row["state"] for row in scenario.results(tmp_path)] == ["interrupted", "complete"]
    assert [*(tmp_path / "logs/sweep-cnn").glob("trial-*/mnist-cnn/version_*")] == [
        tmp_path / "logs/sweep-cnn/trial-0000/mnist-cnn/version_0"
    ]


def test_seeds_are_recorded_also_those_that_diverge_and_only_runs_without_a_break_have_a_time(make_worker, tmp_path):
    task = Repetition(repetitions(2, None))
    worker = make_worker(task)
    worker.records = Records(tmp_path / "cnn.csv", "cnn", "0123")
    begun = tmp_path / "sweep/trial-0000/mnist-cnn/version_0"
    begun.mkdir(parents=True)
    (begun / "config.yaml").touch()

    worker.run()

    resumed, whole = worker.records.read()
    assert (resumed["val/acc"], whole["val/acc"]) == ("0.7875", "0.7875")
    assert resumed["seconds"] == "" and float(whole["seconds"]) >= 0

    failing = make_worker(task, f"--stub.dies={DIVERGED}", name="diverging")
    failing.records = Records(tmp_path / "other.csv", "other", "0123")
    failing.run()
    assert [(row["seed"], has_no_metrics(row)) for row in failing.records.read()] == [("0", True), ("1", True)]
