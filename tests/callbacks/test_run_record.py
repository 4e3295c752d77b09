import csv
import json
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import BatchSizeFinder
from lightning.pytorch.loggers import CSVLogger

import lightning_cnn
from lightning_cnn.callbacks import RunRecord, run_record
from lightning_cnn.callbacks.metrics_csv import MetricsCSV
from lightning_cnn.callbacks.tensorboard import TensorBoard
from lightning_cnn.checkpoint import read_description
from lightning_cnn.classifiers import MLPClassifier
from lightning_cnn.data import FashionMNISTDataModule
from lightning_cnn.run import Run


def test_config_and_origin_of_the_data_are_recorded(tiny_data, trainer, tmp_path):
    config = {"seed_everything": 3, "model": {"class_path": "some.Class"}}
    run = trainer(callbacks=[RunRecord(tmp_path, config)])
    run.fit(MLPClassifier(), datamodule=FashionMNISTDataModule(val_size=50))

    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == config
    record = json.loads((tmp_path / "data.json").read_text())
    assert record["dataset"] == "Fashion-MNIST"
    assert record["sample"] is False
    assert str(tiny_data / "FashionMNIST" / "raw") in record["origin"]


def git(*arguments):
    identity = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.com", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def environment(trainer, folder):
    """Train for a step, and return the recorded environment."""
    trainer(callbacks=[RunRecord(folder, {})], max_steps=1, limit_val_batches=0).fit(
        MLPClassifier(), datamodule=FashionMNISTDataModule(val_size=50)
    )
    return json.loads((folder / "environment.json").read_text())


def test_the_environment_is_recorded(tiny_data, trainer, tmp_path, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")

    found = environment(trainer, tmp_path)

    assert found["python"] == platform.python_version()
    assert found["platform"] and found["processor"]
    assert (found["device"], found["processes"], found["threads"], found["seed"]) == ("cpu", 1, 1, 7)
    assert found["parameters"] == 669_706
    assert found["versions"]["torch"] == version("torch")
    assert found["versions"]["lightning-cnn"] == lightning_cnn.__version__


def test_without_a_seed_none_is_recorded(tiny_data, trainer, tmp_path, monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)

    assert environment(trainer, tmp_path)["seed"] is None


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_git_revision_of_the_working_directory_is_recorded(tiny_data, trainer, tmp_path, monkeypatch):
    (tmp_path / "code").mkdir()
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "code")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert environment(trainer, tmp_path / "run")["working_directory_revision"] is None  # no repository

    git("init", "--quiet")
    assert environment(trainer, tmp_path / "run")["working_directory_revision"] is None  # no commit

    Path("code.py").write_text("one = 1\n")
    git("add", ".")
    git("commit", "--quiet", "--message", "One")
    git("tag", "v1")
    commit = git("rev-parse", "HEAD")
    assert environment(trainer, tmp_path / "run")["working_directory_revision"] == commit

    Path("code.py").write_text("one = 2\n")
    assert environment(trainer, tmp_path / "run")["working_directory_revision"] == f"{commit}-dirty"


def test_without_git_there_is_no_revision(tiny_data, trainer, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    found = environment(trainer, tmp_path)
    assert (found["git_revision"], found["working_directory_revision"]) == (None, None)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_package_that_is_installed_in_the_repository_of_another_project_has_no_revision(tmp_path, monkeypatch):
    package = tmp_path / ".venv" / "lightning_cnn"
    package.mkdir(parents=True)
    (package / "run_record.py").touch()
    monkeypatch.setattr(run_record, "__file__", str(package / "run_record.py"))
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "Another project")
    assert run_record._project_revision() is None

    git("add", "--force", ".")  # now it is the repository of this project
    git("commit", "--quiet", "--message", "This project")
    assert run_record._project_revision() == git("rev-parse", "HEAD")


def test_the_earlier_environment_of_a_resumed_run_is_kept_if_anything_has_changed(
    tiny_data, trainer, tmp_path, monkeypatch, caplog
):
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path / "code")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    first = environment(trainer, tmp_path)
    assert "earlier" not in first
    assert environment(trainer, tmp_path)["earlier"] == []  # nothing has changed

    (tmp_path / "environment.json").write_text(json.dumps(first | {"git_revision": "abc"}))
    changed = environment(trainer, tmp_path)
    assert changed == first | {"earlier": [first | {"git_revision": "abc"}]}
    assert "bit-exact" not in caplog.text

    (tmp_path / "environment.json").write_text(json.dumps(changed | {"threads": 7, "precision": "64-true"}))
    assert len(environment(trainer, tmp_path)["earlier"]) == 2
    changes = "precision 64-true → 32-true, threads 7 → 1"
    assert f"Resume is not bit-exact, because the environment has changed: {changes}" in caplog.text


def test_the_environment_in_which_a_run_was_begun_is_kept_however_often_it_is_resumed(
    tiny_data, trainer, tmp_path, monkeypatch
):
    for revision in ("first", "second", "second", "third", "first"):
        monkeypatch.setattr(run_record, "_project_revision", lambda revision=revision: revision)
        found = environment(trainer, tmp_path)

    assert [record["git_revision"] for record in (*found["earlier"], found)] == ["first", "second", "third", "first"]


def val_accs(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [row["val/acc"] for row in csv.DictReader(file) if row["val/acc"]]


def test_loggers_get_the_hyperparameters(tiny_data, trainer, tmp_path):
    config = {"seed_everything": 3, "model": {"class_path": "some.Class"}, "plots": {"enabled": True}}
    csv_logger = CSVLogger(tmp_path / "csv", name="", version="")
    run = trainer(
        callbacks=[RunRecord(tmp_path, config)],
        logger=[MetricsCSV(tmp_path), TensorBoard(tmp_path), csv_logger],
        enable_autolog_hparams=False,
    )
    run.fit(MLPClassifier(), datamodule=FashionMNISTDataModule(val_size=50))

    logged = yaml.safe_load((tmp_path / "csv" / "hparams.yaml").read_text())
    assert logged == {"seed_everything": 3, "model": "Class"}
    assert not (tmp_path / "hparams.yaml").exists()
    assert val_accs(tmp_path) == val_accs(tmp_path / "csv") != []
    assert Run(tmp_path).event_files()


def test_the_batch_size_that_was_given_is_recorded_beside_a_global_one(tiny_data, trainer, tmp_path):
    config = {"data": {"init_args": {"batch_size": 64, "global_batch_size": 32}}}
    record = RunRecord(tmp_path, config)

    run = trainer(callbacks=[record])
    run.fit(MLPClassifier(), datamodule=FashionMNISTDataModule(val_size=50, **config["data"]["init_args"]))

    assert record.config == {"data": {"init_args": {"batch_size": 64, "global_batch_size": 32}}}


def test_the_batch_size_that_was_found_is_recorded(tiny_data, trainer, tmp_path):
    config = {"data": {"init_args": {"batch_size": 64}}}
    finder = BatchSizeFinder(init_val=4, max_trials=1, steps_per_trial=1)
    run = trainer(callbacks=[finder, RunRecord(tmp_path, config)])
    run.fit(MLPClassifier(), datamodule=FashionMNISTDataModule(val_size=50, batch_size=64))

    run.save_checkpoint(tmp_path / "some.ckpt")

    assert finder.optimal_batch_size != 64
    recorded = (
        yaml.safe_load((tmp_path / "config.yaml").read_text()),
        read_description(tmp_path / "some.ckpt")["config"],
    )
    assert {each["data"]["init_args"]["batch_size"] for each in recorded} == {finder.optimal_batch_size}


def test_checkpoints_have_the_whole_config(tiny_data, trainer, tmp_path):
    config = {"seed_everything": 3, "model": {"class_path": "some.Class"}, "trainer": {"max_epochs": 1}}
    run = trainer(callbacks=[RunRecord(tmp_path, config)])
    run.fit(MLPClassifier(), datamodule=FashionMNISTDataModule(val_size=50))

    run.save_checkpoint(tmp_path / "some.ckpt")

    description = read_description(tmp_path / "some.ckpt")
    assert description["config"] == config
    assert description["class_names"][0] == "T-shirt/top"
    assert description["preprocessing"] == {"mean": 0, "std": 1}


def test_validation_records_nothing(tiny_data, trainer, tmp_path):
    run = trainer(callbacks=[RunRecord(tmp_path, {})])
    run.validate(MLPClassifier(), datamodule=FashionMNISTDataModule(val_size=50), verbose=False)

    assert list(tmp_path.iterdir()) == []
    assert torch.isfinite(run.callback_metrics["val/loss"])
