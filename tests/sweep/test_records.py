import csv
import json
from pathlib import Path

import pytest
from checkout import ROOT
from runs import write_run

from lightning_cnn.errors import UserError
from lightning_cnn.files import shipped_configs
from lightning_cnn.run import Run
from lightning_cnn.sweep.records import Records, config_name, has_no_metrics, read_rows, record, settings_hash
from lightning_cnn.training.parsing import settings_of

SETTINGS = {
    "seed_everything": 0,
    "trainer": {"max_epochs": 2, "precision": "auto", "callbacks": None},
    "model": {"class_path": "a.Model", "init_args": {"optimizer": {"class_path": "Adam", "init_args": {"lr": 0.1}}}},
    "data": {"class_path": "a.Data", "init_args": {"batch_size": 64, "data_dir": "data"}},
    "plots": {"enabled": True},
}
ROW = {"val/acc": "0.9", "test/acc": "0.8", "epochs": "2", "torch": "2.15.0"}
#: The files of records of this project.
FILES = sorted(ROOT.glob("results/**/*.csv"))


@pytest.fixture
def records() -> Records:
    return Records.of(Path("results"), Path("configs/mnist/cnn.yaml"), SETTINGS)


def changed(place: str, value: object) -> str:
    """The hash of the settings with one of them changed."""
    settings = json.loads(json.dumps(SETTINGS))
    *groups, name = place.split(".")
    group = settings
    for key in groups:
        group = group[key]
    group[name] = value
    return settings_hash(settings)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("trainer.max_epochs", 3),
        ("model.class_path", "a.Other"),
        ("model.init_args.optimizer.init_args.lr", 0.2),
        ("model.init_args.mean", 0.5),
        ("data.init_args.batch_size", 32),
        ("checkpoints", {"monitor": "val/loss"}),
    ],
)
def test_settings_that_decide_the_result_change_the_hash(place, value):
    assert changed(place, value) != settings_hash(SETTINGS)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("seed_everything", 1),
        ("trainer.precision", "32-true"),
        ("trainer.default_root_dir", "elsewhere"),
        ("data.init_args.data_dir", None),
        ("plots.enabled", False),
        ("model.init_args.new_option", None),
        ("model.init_args.optimizer.init_args.new_option", False),
        ("new_group", {"option": []}),
    ],
)
def test_the_machine_the_seed_and_options_that_are_off_do_not(place, value):
    assert changed(place, value) == settings_hash(SETTINGS)


def test_the_file_is_named_after_the_config(records):
    assert records.file == Path("results/mnist/cnn.csv")
    assert config_name(Path("/any/configs/sweeps/a.yaml")) == "sweeps/a"
    assert config_name(Path("folder/mine.yaml")) == "mine"


def test_rows_are_sorted_and_a_seed_keeps_its_row(records):
    records.add({10: ROW, 2: ROW})
    records.add({2: ROW | {"test/acc": "0.1"}, 0: ROW})

    assert [(row["seed"], row["test/acc"]) for row in records.read()] == [("0", "0.8"), ("2", "0.8"), ("10", "0.8")]
    header, *lines = records.file.read_text().splitlines()
    assert header.startswith("config,hash,seed,val/acc,test/acc,epochs,seconds,parameters,precision,")
    assert lines[0].startswith(f"mnist/cnn,{records.hash},0,0.9,0.8,2,,,") and len(lines) == 3
    assert records.missing(range(4)) == [1, 3]


def test_nothing_is_written_when_there_is_nothing_new(records):
    records.add({0: ROW})
    before = records.file.stat().st_mtime_ns

    records.add({0: ROW})
    records.add({})

    assert records.file.stat().st_mtime_ns == before


def test_rows_of_other_settings_are_refused(records):
    records.add({0: ROW})

    with pytest.raises(UserError, match=r"results/mnist/cnn\.csv has records of other settings of mnist/cnn \(hash .*"):
        Records(records.file, records.config, "0123").missing(range(3))
    with pytest.raises(UserError, match=r"has a record of mnist/cnn, not of mnist/mlp; rename the file"):
        Records(records.file, "mnist/mlp", records.hash).read()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda text: text.replace("hash,", "", 1), "it has no column hash"),
        (lambda text: text + text.splitlines()[1] + "\n", "seed 0 is there twice"),
        (lambda text: text + "a,b\n", "a row has not one value for each column"),
        (lambda text: text.replace(",0.9,", ",good,"), "could not convert string to float"),
        (lambda text: text.replace(",0,", ",first,"), "invalid literal"),
        (lambda text: text + '"', "unexpected end of data"),
    ],
)
def test_a_damaged_file_is_refused(records, damage, why):
    records.add({0: ROW})
    records.file.write_text(damage(records.file.read_text()))

    with pytest.raises(UserError, match=f"cnn.csv is damaged \\(.*{why}.*; repair or delete it"):
        records.read()


def test_a_file_that_cannot_be_written_is_one_line(records):
    Path("results").touch()

    with pytest.raises(UserError, match=r"results/mnist/cnn\.csv cannot be written \(.*; give another --results"):
        records.add({0: ROW})


def test_a_row_has_the_metrics_of_the_best_epoch_and_the_machine(tmp_path):
    row = record(Run(write_run(tmp_path / "run")), "val/acc", "max", 12.34)

    assert {name: row[name] for name in row if "/" in name} == {
        "val/acc": "0.9375", "val/loss": "0.25", "test/acc": "0.625", "test/loss": "0.6875",
    }  # fmt: skip
    assert (row["epochs"], row["seconds"], row["parameters"], row["threads"]) == ("3", "12.3", "402986", "2")
    assert (row["processor"], row["python"], row["torch"]) == ("AMD EPYC", "3.11.7", "2.15.0")


def test_a_row_of_a_run_that_was_interrupted_has_no_time(tmp_path):
    assert record(Run(write_run(tmp_path / "run")), "val/loss", "min", None)["seconds"] == ""


def test_a_run_without_a_finite_value_has_no_metrics(tmp_path):
    metrics = "epoch,step,val/acc,val/loss\n0,9,nan,nan\n"

    row = record(Run(write_run(tmp_path / "run", metrics=metrics)), "val/acc", "max", 1.0)

    assert has_no_metrics(row) and row["epochs"] == ""


def test_there_are_records():
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_shipped_configs_are_those_of_their_records(file):
    name = file.relative_to(ROOT / "results").with_suffix("").as_posix()
    config = shipped_configs()[name]

    rows = Records.of(ROOT / "results", config, settings_of(["fit", "--config", str(config)])).read()

    assert rows and {row["config"] for row in rows} == {name}
    with file.open(newline="") as stream:
        assert [*csv.DictReader(stream)] == rows == read_rows(file)  # sorted
