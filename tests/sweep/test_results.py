import csv
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import optuna
import pytest
import yaml
from filelock import FileLock
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from lightning_cnn.sweep import results

DISTRIBUTIONS = {
    "model.optimizer": CategoricalDistribution(["Adam", "SGD"]),
    "model.optimizer.lr": FloatDistribution(1e-4, 1e-1, log=True),
    "model.optimizer.momentum": FloatDistribution(0.0, 0.99),
}
ADAM = {"model.optimizer": "Adam", "model.optimizer.lr": 0.00123456}
SGD = {"model.optimizer": "SGD", "model.optimizer.lr": 0.05, "model.optimizer.momentum": 0.9}
GIVEN = {"trainer": {"default_root_dir": "logs", "enable_progress_bar": None}, "plots": {"enabled": True}}


pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture(autouse=True)
def _undrawn(request, monkeypatch):
    """Leave out the drawing, which takes most of the time, where a test does not ask for it."""
    if "_drawn" not in request.fixturenames:
        monkeypatch.setattr("lightning_cnn.sweep.figures.write_figures", lambda *_: None)


@pytest.fixture
def _drawn():
    """Draw the figures."""


def new_study(kind: str = "search", monitor: str = "val/acc", direction: str = "maximize") -> optuna.Study:
    study = optuna.create_study(study_name="sweep-cnn", direction=direction)
    study.set_metric_names([monitor])
    study.set_user_attr("kind", kind)
    return study


def add(
    study: optuna.Study,
    accuracy: float | None,
    settings: dict | None = None,
    state: TrialState = TrialState.COMPLETE,
    reported: dict[int, float] | None = None,
    seconds: float = 2.5,
    **attributes: object,
) -> None:
    """Add a trial as a worker leaves it, with its number among all unless another is given."""
    settings = ADAM if settings is None else settings
    params = {name: value for name, value in settings.items() if name in DISTRIBUTIONS}
    number = attributes.pop("number", len(study.trials))
    trainer = {"default_root_dir": f"/sweep/trial-{number}", "enable_progress_bar": False, "max_epochs": 5}
    known = {"settings": settings, "number": number, "folder": f"/sweep/trial-{number}", "host": "here"}
    known |= {"config": {"seed_everything": 0, "trainer": trainer, "plots": {"enabled": False}}}
    distributions = {name: DISTRIBUTIONS[name] for name in params}
    trial = create_trial(
        state=state,
        value=accuracy,
        params=params,
        distributions=distributions,
        intermediate_values=reported,
        user_attrs=known | attributes,
        system_attrs={"retry_history": attributes.get("retries", [])},
    )
    trial.datetime_complete = trial.datetime_start + timedelta(seconds=seconds)
    study.add_trial(trial)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return [*csv.DictReader(file)]


def test_every_trial_has_a_row_with_its_settings_in_columns(tmp_path):
    study = new_study()
    add(study, 0.9, ADAM)
    add(study, None, SGD, TrialState.PRUNED, {0: 0.5, 1: 0.75, 2: 0.625})
    add(study, None, SGD, TrialState.FAIL, error="no room")
    results.write(study, tmp_path, GIVEN)

    complete, pruned, failed = rows(tmp_path)
    assert complete == {
        "number": "0",
        "state": "complete",
        "val/acc": "0.9",
        "test/acc": "",
        "model.optimizer": "Adam",
        "model.optimizer.lr": "0.00123456",
        "model.optimizer.momentum": "",
        "seconds": "2.5",
        "host": "here",
        "folder": "/sweep/trial-0",
        "error": "",
    }
    assert (pruned["state"], pruned["val/acc"], pruned["model.optimizer.momentum"]) == ("pruned", "0.625", "0.9")
    assert (failed["state"], failed["val/acc"], failed["error"]) == ("failed", "", "no room")


def test_text_in_the_table_is_no_formula_and_numbers_stay_numbers(tmp_path):
    study = new_study()
    settings = {"data.shift": -0.5, "data.root": "=1+1", "data.augment": None, "data.fold": -1}
    add(study, None, settings, TrialState.FAIL, error="-cmd", host="@host")
    results.write(study, tmp_path, GIVEN)

    (row,) = rows(tmp_path)
    names = ("error", "host", *settings)
    assert [row[name] for name in names] == ["'-cmd", "'@host", "-0.5", "'=1+1", "null", "-1"]


def test_running_waiting_and_interrupted_trials_have_rows_as_well(tmp_path):
    study = new_study()
    add(study, None, state=TrialState.FAIL, reported={0: 0.5})
    add(study, 0.9, number=0, retries=[0])
    study.ask(DISTRIBUTIONS).set_user_attr("number", 2)
    study.enqueue_trial({}, user_attrs={"number": 3})
    printed = results.write(study, tmp_path, GIVEN)

    assert [(row["number"], row["state"]) for row in rows(tmp_path)] == [
        ("0", "interrupted"),
        ("0", "complete"),
        ("2", "running"),
        ("3", "waiting"),
    ]
    assert "Trials:     1 complete, 1 running, 1 waiting (after 1 interrupted attempt)" in printed.splitlines()


def test_settings_are_written_as_in_flags(tmp_path):
    study = new_study("repeat")
    add(study, 0.9, {"a": True, "b": None, "c": 32, "d": "null"})
    results.write(study, tmp_path, GIVEN)

    (row,) = rows(tmp_path)
    assert [row[name] for name in "abcd"] == ["true", "null", "32", "null"]


@pytest.mark.usefixtures("_drawn")
def test_the_best_trials_are_printed_best_first_and_aligned(tmp_path):
    study = new_study()
    add(study, 0.98, ADAM)
    add(study, 0.9912, SGD, seconds=123.4)
    add(study, None, SGD, TrialState.PRUNED, {0: 0.999})
    add(study, 0.98, ADAM)
    printed = results.write(study, tmp_path, GIVEN).splitlines()

    assert printed[:5] == [
        "trial  val/acc  optimizer        lr  momentum   time",
        "    1  99.12 %        SGD      0.05       0.9  123 s",
        "    0  98.00 %       Adam  0.001235         –    2 s",
        "    3  98.00 %       Adam  0.001235         –    2 s",
        "",
    ]
    assert printed[5:] == [
        "Trials:     3 complete, 1 pruned",
        f"Results:    results.csv, history.png, settings.png in {tmp_path}",
        f"Look at it: tensorboard --logdir {tmp_path}",
        f"Train best: lightning-cnn fit --config {tmp_path}/best.yaml",
    ]


def test_a_program_that_finds_the_classes_of_the_user_is_named_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/site-packages/lightning_cnn/__main__.py", "sweep"])
    study = new_study()
    add(study, 0.9)

    command = f"python -m lightning_cnn fit --config {tmp_path}/best.yaml"
    assert results.write(study, tmp_path, GIVEN).splitlines()[-1] == f"Train best: {command}"
    assert f"# Train it: {command}\n" in (tmp_path / "best.yaml").read_text()


def test_of_many_trials_the_best_ten_are_printed(tmp_path):
    study = new_study()
    for n in range(12):
        add(study, 0.9 + n / 1000)
    printed = results.write(study, tmp_path, GIVEN).splitlines()

    assert [int(line.split()[0]) for line in printed[1 : printed.index("")]] == [11, 10, 9, 8, 7, 6, 5, 4, 3, 2]


def test_names_of_settings_are_shortened_to_unique_suffixes(tmp_path):
    study = new_study()
    add(study, 0.9, {"model.optimizer.lr": 0.1, "model.scheduler.lr": 2, "data.batch_size": 3})
    printed = results.write(study, tmp_path, GIVEN).splitlines()

    assert printed[0].split() == ["trial", "val/acc", "optimizer.lr", "scheduler.lr", "batch_size", "time"]


def test_a_loss_is_minimized_and_not_printed_in_percent(tmp_path):
    study = new_study(monitor="val/loss", direction="minimize")
    add(study, 2.5)
    add(study, 0.0123456)
    printed = results.write(study, tmp_path, GIVEN).splitlines()

    assert [line.split()[:2] for line in printed[:3]] == [["trial", "val/loss"], ["1", "0.01235"], ["0", "2.5"]]
    assert rows(tmp_path)[1]["val/loss"] == "0.0123456"
    assert (
        (tmp_path / "best.yaml").read_text().startswith('# The best trial of "sweep-cnn": trial 1, val/loss 0.01235.')
    )


def test_best_yaml_is_the_config_of_the_best_trial_without_the_settings_of_trials(tmp_path):
    study = new_study()
    add(study, 0.9)
    add(study, 0.95)
    results.write(study, tmp_path, GIVEN)
    text = (tmp_path / "best.yaml").read_text()

    assert text.splitlines()[:2] == [
        '# The best trial of "sweep-cnn": trial 1, val/acc 95.00 %.',
        f"# Train it: lightning-cnn fit --config {tmp_path}/best.yaml",
    ]
    assert yaml.safe_load(text) == {
        "seed_everything": 0,
        "trainer": {"default_root_dir": "logs", "enable_progress_bar": None, "max_epochs": 5},
        "plots": {"enabled": True},
    }


def test_fit_repeats_the_best_run_with_best_yaml(tmp_path, fit):
    run = fit("fashion_mnist/mlp.yaml", "--model.optimizer.lr", 0.25, "--trainer.default_root_dir", tmp_path / "trial")
    config = yaml.safe_load((run / "config.yaml").read_text())
    study = new_study()
    add(study, 0.5, config=config)
    given = {**config, "trainer": {**config["trainer"], "default_root_dir": str(tmp_path / "logs")}}
    results.write(study, tmp_path, given)

    again = fit(tmp_path / "best.yaml")

    assert again == tmp_path / "logs/fashion_mnist-mlp/version_0"
    assert yaml.safe_load((again / "config.yaml").read_text()) == given
    assert (again / "metrics.csv").read_text() == (run / "metrics.csv").read_text()


@pytest.mark.usefixtures("_drawn")
def test_importance_is_drawn_when_enough_trials_are_complete(tmp_path):
    study = new_study()
    for n in range(9):
        add(study, 0.9 + n / 1000, {**SGD, "model.optimizer.lr": 0.001 * (n + 1)})
    results.write(study, tmp_path, GIVEN)
    assert {path.name for path in tmp_path.glob("*.png")} == {"history.png", "settings.png"}

    add(study, 0.9, ADAM)
    results.write(study, tmp_path, GIVEN)
    figures = [*tmp_path.glob("*.png")]
    assert {path.name for path in figures} == {"history.png", "settings.png", "importance.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in figures)


@pytest.mark.usefixtures("_drawn")
def test_importance_of_a_single_setting_is_not_drawn(tmp_path):
    study = new_study()
    for n in range(12):
        add(study, 0.9 + n / 1000, {"model.optimizer.lr": 0.001 * (n + 1)})
    results.write(study, tmp_path, GIVEN)

    assert not (tmp_path / "importance.png").exists()


@pytest.mark.usefixtures("_drawn")
def test_figures_of_an_earlier_sweep_are_deleted(tmp_path):
    for name in results.FIGURES:
        (tmp_path / name).write_text("old")
    study = new_study()
    add(study, None, state=TrialState.FAIL, error="no room")
    printed = results.write(study, tmp_path, GIVEN)

    assert not [*tmp_path.glob("*.png")]
    assert not (tmp_path / "best.yaml").exists()
    assert printed.splitlines()[:2] == ["Trials:     1 failed", f"Results:    results.csv in {tmp_path}"]


def test_the_last_writer_has_read_all_trials(tmp_path):
    study = new_study()
    add(study, 0.9)
    with FileLock(tmp_path / ".results.lock"):
        other = threading.Thread(target=results.write, args=(study, tmp_path, GIVEN))
        other.start()
        time.sleep(0.2)  # for a writer that does not wait
        add(study, 0.95)
        assert not (tmp_path / "results.csv").exists()
    other.join()

    assert len(rows(tmp_path)) == 2
    assert not [*tmp_path.glob(".*.part")]


def test_seeds_have_a_mean_with_deviation_and_interval(tmp_path):
    study = new_study("repeat")
    for seed, accuracy in enumerate((0.90, 0.91, 0.92, 0.93)):
        add(study, accuracy, {"seed_everything": seed}, test={"test/acc": accuracy - 0.1, "test/loss": 0.5})
    printed = results.write(study, tmp_path, GIVEN).splitlines()

    assert printed == [
        "val/acc  91.50 ± 1.29 % (4 seeds; 95 % confidence interval of the mean 89.45 to 93.55 %)",
        "test/acc 81.50 ± 1.29 % (4 seeds; 95 % confidence interval of the mean 79.45 to 83.55 %)",
        "",
        "Trials:     4 complete",
        f"Results:    results.csv in {tmp_path}",
        f"Look at it: tensorboard --logdir {tmp_path}",
    ]
    assert not (tmp_path / "best.yaml").exists()  # the best seed is but the luckiest


def test_the_accuracy_of_the_test_is_shown_beside_another_metric_that_is_monitored(tmp_path):
    study = new_study("repeat", monitor="val/loss")
    for seed, loss in enumerate((0.4, 0.6)):
        add(study, loss, {"seed_everything": seed}, test={"test/acc": 0.9, "test/loss": loss + 1, "test/f1": 0.8})
    printed = results.write(study, tmp_path, GIVEN).splitlines()

    assert results.trial_line(study.trials[0], "val/loss") == (
        "trial 0  complete  val/loss 0.4  test/loss 1.4  test/acc 90.00 %  seed_everything=0  2 s"
    )
    assert [line.partition(" (")[0] for line in printed[:3]] == [
        "val/loss  0.5 ± 0.1414",
        "test/loss 1.5 ± 0.1414",
        "test/acc  90.00 ± 0.00 %",
    ]
    assert [row["test/f1"] for row in rows(tmp_path)] == ["0.8", "0.8"]


def test_folds_have_a_mean_whose_interval_is_called_rough(tmp_path):
    study = new_study("repeat")
    for fold, accuracy in enumerate((0.90, 0.91, 0.92, 0.93)):
        add(study, accuracy, {"data.folds": 4, "data.fold": fold})
    printed = results.write(study, tmp_path, GIVEN).splitlines()

    assert printed[0] == (
        "val/acc 91.50 ± 1.29 % (4 folds; rough 95 % confidence interval of the mean 89.45 to 93.55 %)"
    )


def test_seeds_of_a_fold_are_averaged_before_folds_are_compared(tmp_path):
    study = new_study("repeat")
    for seed, shift in enumerate((-0.01, 0.01)):
        for fold, accuracy in enumerate((0.90, 0.91, 0.92, 0.93)):
            add(study, accuracy + shift, {"seed_everything": seed, "data.folds": 4, "data.fold": fold})
    printed = results.write(study, tmp_path, GIVEN).splitlines()

    assert printed[0] == (
        "val/acc 91.50 ± 1.29 % (4 folds, 8 runs; rough 95 % confidence interval of the mean 89.45 to 93.55 %)"
    )


def test_a_run_that_has_diverged_is_left_out_of_the_mean_and_counted(tmp_path):
    study = new_study("repeat")
    for seed, accuracy in enumerate((0.90, 0.91)):
        add(study, accuracy, {"seed_everything": seed})
    study.enqueue_trial({}, user_attrs={"number": 2, "settings": {"seed_everything": 2}, "error": "NaN in the loss"})
    trial = study.ask()
    trial.report(0.99, 0)
    trial.set_constraint("diverged", 1.0)
    study.tell(trial, state=TrialState.PRUNED)
    printed = results.write(study, tmp_path, GIVEN).splitlines()

    assert printed[0].startswith("val/acc 90.50 ± 0.71 % (2 seeds; ")
    assert printed[1:4] == ["without the 1 run that diverged", "", "Trials:     2 complete, 1 diverged"]
    assert (rows(tmp_path)[2]["state"], rows(tmp_path)[2]["val/acc"]) == ("diverged", "")


def test_one_run_that_has_ended_has_no_deviation_yet(tmp_path):
    study = new_study("repeat")
    add(study, 0.9, {"seed_everything": 0})
    add(study, None, {"seed_everything": 1}, TrialState.FAIL, error="no room")
    printed = results.write(study, tmp_path, GIVEN).splitlines()

    assert printed[0] == "val/acc 90.00 % (1 seed)"
    assert printed[2] == "Trials:     1 complete, 1 failed"
