import csv
import json
import os
import signal
import sys
from pathlib import Path

import forks
import pytest
import yaml
from filelock import FileLock
from sweep import scenario, stub
from sweep.program import NO_FIGURES, SETTINGS, accepting

from lightning_cnn.commands import sweep
from lightning_cnn.errors import install_extra
from lightning_cnn.run import Run

SPACE = """
model.optimizer.lr: {from: 1e-4, to: 0.1, log: true}
stub.word: [a, b]
"""


@pytest.fixture(autouse=True)
def _files(tmp_path):
    Path("cnn.yaml").write_text("trainer: {max_epochs: 3}\n")
    Path("space.yaml").write_text(SPACE)


@pytest.fixture
def checked(monkeypatch, tmp_path):
    """Let the check accept all commands, and return them."""
    path = tmp_path.with_name(f"{tmp_path.name}-checked")
    answer = f"print(json.dumps({{'test': '--test=true' in text, **{SETTINGS!r}}}))"
    code = f"import json, pathlib, sys; text = sys.stdin.read(); pathlib.Path({str(path)!r}).write_text(text); {answer}"
    monkeypatch.setattr(sweep, "CHECK", (sys.executable, "-c", code))
    return lambda: json.loads(path.read_text())


@pytest.fixture
def _stubs(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning_cnn.sweep.figures", NO_FIGURES)
    monkeypatch.setattr("lightning_cnn.sweep.trial_process.start", stub.start)


@pytest.mark.usefixtures("_stubs")
def test_a_search_from_beginning_to_end(cli, checked):
    arguments = (
        "sweep",
        "--config",
        "cnn.yaml",
        "--space",
        "space.yaml",
        "--n_trials",
        2,
        "--stub.say",
        "a=b",
        "--x=-1",
    )
    outcome = cli(*arguments)

    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("Sweep folder: logs/sweep-cnn\ntrial 0  complete  val/acc ")
    assert {"study.db", "results.csv", "best.yaml"} <= {path.name for path in Path("logs/sweep-cnn").iterdir()}
    plain, *trials = checked()
    assert plain == ["fit", "--config", "cnn.yaml", "--stub.say=a=b", "--x=-1"]
    assert [trial[-2:] for trial in trials] == [
        ["--model.optimizer.lr=0.0001", "--stub.word=a"],
        ["--model.optimizer.lr=0.1", "--stub.word=a"],
        ["--model.optimizer.lr=0.0001", "--stub.word=b"],
    ]
    again = cli(*arguments)
    assert again.status == 0 and "trial 0  complete" not in again.out
    assert again.out.split("\n", 1)[1] in outcome.out  # the results


@pytest.mark.usefixtures("_stubs", "checked")
def test_failed_runs_of_a_repetition_are_exit_status_1(cli):
    outcome = cli("sweep", "-c", "cnn.yaml", "--seeds", 2, "--name", "mine", "--stub.dies=1")

    assert outcome.status == 1
    assert outcome.err == "lightning-cnn: error: 2 of 2 trials have failed; the same command tries them again\n"
    assert "2 failed" in outcome.out and Path("logs/mine/results.csv").is_file()


@pytest.mark.usefixtures("_stubs", "checked")
def test_another_sweep_needs_another_name(cli):
    Path("other").mkdir()
    Path("other/cnn.yaml").write_text("trainer: {max_epochs: 4}\n")
    assert cli("sweep", "--config=cnn.yaml", "--seeds=2").status == 0

    for arguments, what in (
        ("--config=cnn.yaml --seeds=3 --trainer.max_epochs=1", "other flags for `fit`"),
        ("--config=cnn.yaml --folds=2 --name=seeds-cnn", "another task of --space, --seeds and --folds"),
        ("--config=other/cnn.yaml --seeds=2", "another --config"),
    ):
        outcome = cli("sweep", *arguments.split())
        assert outcome.status == 2
        assert f"was started with {what}; give the same again, or another --name" in outcome.err

    on_another_machine = cli("sweep", "--config=cnn.yaml", "--seeds=2", "--data.data_dir=/mnt/data")
    assert on_another_machine.status == 0


@pytest.mark.usefixtures("_stubs", "checked")
def test_results_are_recorded_and_only_missing_seeds_are_run(cli):
    def run(k, *flags):
        return cli("sweep", "-c", "cnn.yaml", "--seeds", k, "--test", "true", "--results", "results", *flags)

    assert run(2).status == 0
    Path("logs").rename("another_machine")
    outcome = run(3, "--trainer.precision", "32-true")

    assert (outcome.status, outcome.err) == (0, "")
    assert "trial 0  complete" in outcome.out and "trial 1" not in outcome.out  # of this machine
    assert Path("logs/results-cnn").is_dir()
    with Path("results/cnn.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert [row["seed"] for row in rows] == ["0", "1", "2"]
    assert {(row["test/acc"], row["val/acc"]) for row in rows} == {("0.5", "0.7875")}
    assert "Records:    results/cnn.csv: test/acc 50.00 ± 0.00 % (3 seeds; " in outcome.out
    again = run(3)
    assert (again.status, again.out.split("\n")[0]) == (0, "All seeds are recorded.")


@pytest.mark.usefixtures("_stubs", "checked")
def test_a_row_that_was_not_written_is_taken_from_the_sweep(cli):
    arguments = ("sweep", "-c", "cnn.yaml", "--seeds", 2, "--test", "true", "--results", "results")
    assert cli(*arguments).status == 0
    written = Path("results/cnn.csv").read_text()
    Path("results/cnn.csv").unlink()

    outcome = cli(*arguments)

    assert outcome.status == 0 and "trial 0  complete" not in outcome.out
    assert Path("results/cnn.csv").read_text() == written


@pytest.mark.usefixtures("_stubs")
def test_rows_of_other_settings_are_refused_before_anything_is_run(cli, monkeypatch, tmp_path):
    arguments = ("sweep", "-c", "cnn.yaml", "--seeds", 2, "--test", "true", "--results", "results")
    for size in (64, 32):
        settings = {**SETTINGS, "data": {"batch_size": size}}
        monkeypatch.setattr(sweep, "CHECK", accepting(settings))
        outcome = cli(*arguments)

    assert (outcome.status, outcome.out) == (2, "")
    assert "results/cnn.csv has records of other settings of cnn (hash " in outcome.err
    assert outcome.err.endswith("; restore the config, or delete the file to run all seeds again\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--config cnn.yaml --folds 2 --test true --results r", "--results records seeds; give --seeds K, and neither"),
        ("--config cnn.yaml --seeds 2 --folds 2 --test true --results r", "--results records seeds; give --seeds K"),
        (
            "--config cnn.yaml --seeds 2 --test true --results r --model.optimizer.lr 1",
            "--model.optimizer.lr changes the result, and --results records that of the config alone; write it into",
        ),
        ("--config cnn.yaml --seeds 2 --test true --results s3://r", "argument --results: s3://r is an address"),
        ("--space space.yaml", "the following arguments are required: -c/--config"),
        ("--config cnn.yaml", "sweep needs --space FILE, --seeds K or --folds K"),
        ("--config no.yaml --seeds 2", "config 'no.yaml' cannot be read"),
        ("--config cnn.yaml --space no.yaml", "config 'no.yaml' cannot be read"),
        ("--config cnn.yaml --seeds 1", "argument --seeds: must be a whole number from 2 to 1000, got '1'"),
        ("--config cnn.yaml --seeds 100000", "argument --seeds: must be a whole number from 2 to 1000, got '100000'"),
        ("--config cnn.yaml --folds two", "argument --folds: must be a whole number from 2 to 1000, got 'two'"),
        ("--config cnn.yaml --space space.yaml --n-trials 0", "must be a whole number of at least 1, got '0'"),
        ("--config cnn.yaml --space space.yaml --seed -1", "must be a whole number of at least 0, got '-1'"),
        ("--config cnn.yaml --space space.yaml --seeds 2", "--space cannot be combined with --seeds or --folds"),
        ("--config cnn.yaml --folds 2 --n_trials 3", "--n_trials is for --space"),
        ("--config cnn.yaml --seeds 2 --ckpt_path last", "--ckpt_path cannot be given to a sweep"),
        ("--config cnn.yaml --seeds 2 --resume=auto", "--resume cannot be given to a sweep"),
        ("--config cnn.yaml --seeds 2 --seed_everything 1", "--seed_everything is varied by this sweep"),
        ("--config cnn.yaml --folds 2 --data.fold=1", "--data.fold is varied by this sweep"),
        (
            "--config cnn.yaml --space space.yaml --model.optimizer.lr 1",
            "--model.optimizer.lr is varied by this sweep",
        ),
        (
            "--config cnn.yaml --space space.yaml --model.init_args.optimizer.init_args.lr 1",
            "--model.optimizer.lr is varied by this sweep",
        ),
        ("--config cnn.yaml --seeds 2 extra", "'extra' is not an option"),
        ("--config cnn.yaml --seeds 2 --print_config", "--print_config cannot be given to a sweep"),
        ("--config cnn.yaml --seeds 2 --a --b 1", "a flag of `fit` needs a value: --a VALUE"),
        ("--config cnn.yaml --seeds 2 --name a/b", "--name 'a/b' must be the name of a folder"),
        ("--config cnn.yaml --seeds 2 --name ..", "--name '..' must be the name of a folder"),
        ("--config cnn.yaml --seeds 2 --storage mysql://me:secret@host/db", "'mysql' is not supported"),
    ],
)
def test_errors_are_one_line_and_nothing_is_created(cli, tmp_path, arguments, message):
    outcome = cli("sweep", *arguments.split())

    assert (outcome.status, outcome.out) == (2, "")
    assert message in outcome.err and outcome.err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"cnn.yaml", "space.yaml"}


@pytest.mark.usefixtures("checked")
def test_a_file_in_place_of_the_folder_is_an_error(cli):
    Path("logs").mkdir()
    Path("logs/mine").touch()

    outcome = cli("sweep", "--config", "cnn.yaml", "--seeds", "2", "--name", "mine")

    assert (outcome.status, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert "the folder of the sweep, logs/mine, cannot be created (file exists); give another --name" in outcome.err


def test_flags_that_fit_refuses_are_an_error_before_anything_is_created(cli, tmp_path, monkeypatch):
    for error, message in [
        ("there is no option --n_trial", "there is no option --n_trial; did you mean '--n_trials'?"),
        ("there is no option --x; did you mean '--y'?", "there is no option --x; did you mean '--y'?"),
    ]:
        monkeypatch.setattr(sweep, "CHECK", (sys.executable, "-c", f"import sys; sys.exit({error!r})"))
        outcome = cli("sweep", "--config", "cnn.yaml", "--seeds", "2")

        assert (outcome.status, outcome.err) == (2, f"lightning-cnn: error: {message}\n")
    assert {path.name for path in tmp_path.iterdir()} == {"cnn.yaml", "space.yaml"}


def test_without_optuna_the_extra_is_named(cli, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("lightning_cnn.sweep.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "optuna", None)
    outcome = cli("sweep", "--config", "cnn.yaml", "--seeds", "2")

    assert outcome.status == 2
    assert outcome.err == f"lightning-cnn: error: sweep needs optuna; {install_extra('sweep')}\n"


def test_a_real_run_is_resumed_after_its_worker_was_killed(tiny_data, tmp_path):
    config = {
        "model": "CNNClassifier",
        "data": {"class_path": "MNISTDataModule", "init_args": {"val_size": 50, "batch_size": 15}},
        "trainer": {"max_epochs": 4, "precision": "32-true", "accelerator": "cpu"},
        "dashboard": {"enabled": False},
    }
    Path("cnn.yaml").write_text(yaml.safe_dump(config))
    Path("space.yaml").write_text("model.optimizer.lr: {from: 1e-4, to: 1e-2, log: true}\n")
    command = [sys.executable, "-m", "sweep.program", "sweep", "--config=cnn.yaml", "--space=space.yaml"]
    environment = os.environ | {"SWEEP_DATA": str(tiny_data), "OMP_NUM_THREADS": "1"}
    trial = tmp_path / "logs/sweep-cnn/trial-0000"
    run = Run(trial / "mnist-cnn/version_0")
    options = {
        "env": environment,
        "stdout": -1,
        "stderr": -1,
        "text": True,
        "has_forks": True,
        "imports": scenario.PROGRAM,
    }
    with forks.Popen([*command, "--n_trials=1"], **options) as killed:
        scenario.until(run.metrics_file.is_file)
        killed.send_signal(signal.SIGKILL)
    with FileLock(run.lock_file, timeout=scenario.TIMEOUT):  # the trial has saved its checkpoint and ended
        pass
    scenario.miss_heartbeats(scenario.database(tmp_path), "trial-0000")

    done = forks.Popen([*command, "--n_trials=1"], **options)
    _, errors = done.communicate(timeout=scenario.TIMEOUT)

    assert (done.returncode, errors) == (0, "")
    assert [*trial.glob("*/version_*")] == [run.folder]
    assert f"Resumed: {run.folder}" in (trial / "stderr.txt").read_text()
    interrupted, complete = scenario.results(tmp_path)
    assert (interrupted["state"], complete["state"]) == ("interrupted", "complete")
    assert float(complete["val/acc"]) == max(value for _, value in run.read_metric("val/acc"))


@pytest.mark.parametrize(
    ("arguments", "test", "message"),
    [
        ("--space space.yaml", True, "the test images are not for choosing settings: with --space, add --test false"),
        ("--seeds 2 --results r", False, "--results records the test as well; add --test true"),
    ],
)
def test_whether_the_test_images_are_used_is_checked_in_configs_as_well(
    cli, monkeypatch, tmp_path, arguments, test, message
):
    monkeypatch.setattr(sweep, "CHECK", accepting({**SETTINGS, "test": test}))

    outcome = cli("sweep", "--config", "cnn.yaml", *arguments.split())

    assert (outcome.status, outcome.out, outcome.err) == (2, "", f"lightning-cnn: error: {message}\n")
    assert {path.name for path in tmp_path.iterdir()} == {"cnn.yaml", "space.yaml"}


@pytest.mark.usefixtures("_stubs")
@pytest.mark.parametrize("switch", ["--test", "--test true", "--test=True"])
def test_a_switch_needs_no_value(cli, checked, switch):
    outcome = cli("sweep", "--config", "cnn.yaml", "--seeds", 2, *switch.split())

    assert (outcome.status, outcome.err) == (0, "")
    assert checked()[0][3].lower() == "--test=true"
