import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lightning_cnn.errors import UserError
from lightning_cnn.run import Run, find_runs, resolve_checkpoint, snake_case


def make_run(folder, *names: str, time: int | None = None):
    (folder / "checkpoints").mkdir(parents=True)
    for name in names:
        (folder / "checkpoints" / f"{name}.ckpt").touch()
    if time is not None:
        os.utime(folder / "checkpoints", (time, time))
    return Run(folder)


def test_run_folders_are_numbered(tmp_path):
    names = [Run.create(tmp_path / "logs", "mnist-cnn").folder.name for _ in range(11)]

    assert names == [f"version_{n}" for n in range(11)]  # version_10 after version_9, not after version_1
    assert Run.create(tmp_path / "logs", "mnist-mlp").folder == tmp_path / "logs" / "mnist-mlp" / "version_0"


def test_the_next_number_follows_the_highest(tmp_path):
    (tmp_path / "run" / "version_7").mkdir(parents=True)
    (tmp_path / "run" / "version_old").mkdir()
    (tmp_path / "run" / "notes").mkdir()

    assert Run.create(tmp_path, "run").folder.name == "version_8"


def test_threads_that_start_at_once_get_different_folders(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda _: Run.create(tmp_path, "run").folder, range(64)))

    assert len(set(folders)) == 64
    assert all(folder.is_dir() for folder in folders)


def test_a_checkpoint_can_be_a_file(tmp_path):
    file = make_run(tmp_path / "run", "epoch_3").checkpoint("epoch_3")

    assert resolve_checkpoint(str(file), [], folder_means="best") == file


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_run_folder_means_its_best_or_last_checkpoint(tmp_path, name):
    run = make_run(tmp_path / "run", "best", "last")

    assert resolve_checkpoint(str(run.folder), [], folder_means=name) == run.checkpoint(name)


def test_a_name_means_the_checkpoint_of_the_first_run_that_has_it(tmp_path):
    runs = [
        make_run(tmp_path / "a", "last"),
        make_run(tmp_path / "b", "best", "last", "previous"),
        make_run(tmp_path / "c", "best"),
    ]

    assert resolve_checkpoint("best", runs, folder_means="last") == runs[1].checkpoint("best")
    assert resolve_checkpoint("last", runs, folder_means="best") == runs[0].checkpoint("last")
    assert resolve_checkpoint("previous", runs, folder_means="last") == runs[1].checkpoint("previous")


def test_missing_checkpoints_are_named(tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(UserError, match=r"checkpoint nowhere\.ckpt does not exist"):
        resolve_checkpoint("nowhere.ckpt", [], folder_means="best")
    with pytest.raises(UserError, match=r"empty' is not a run folder"):
        resolve_checkpoint(str(tmp_path / "empty"), [], folder_means="best")
    with pytest.raises(UserError, match=r"no matching run has a checkpoint best\.ckpt; train with `fit` first"):
        resolve_checkpoint("best", [make_run(tmp_path / "a", "last")], folder_means="best")


def test_runs_are_found_newest_checkpoint_first(tmp_path):
    old = make_run(tmp_path / "mnist-cnn" / "version_1", "last", time=1_000)
    new = make_run(tmp_path / "mnist-cnn" / "version_0", "last", time=3_000)
    other = make_run(tmp_path / "fashion_mnist-mlp" / "version_0", "last", time=2_000)
    (tmp_path / "mnist-cnn" / "version_2").mkdir()  # without checkpoints

    assert find_runs(tmp_path) == [new, other, old]
    assert find_runs(tmp_path / "nowhere") == []


def test_event_files_are_those_of_the_run_alone(tmp_path):
    (tmp_path / "version_0").mkdir()
    (events := tmp_path / "version_0" / "events.out.tfevents.1.host.2.0").touch()

    assert Run(tmp_path).event_files() == Run(tmp_path / "missing").event_files() == []
    assert Run(tmp_path / "version_0").event_files() == [events]


def test_of_checkpoint_returns_the_run_or_else_the_folder(tmp_path):
    assert Run.of_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt") == Run(tmp_path / "run")
    assert Run.of_checkpoint(tmp_path / "mail" / "best.ckpt") == Run(tmp_path / "mail")


def test_a_file_name_that_is_too_long_is_refused():
    with pytest.raises(UserError, match=r"cannot be read \(file name too long\); give a file, a run folder"):
        resolve_checkpoint("x" * 5_000, [], folder_means="best")


HEADER = "epoch,step,lr-SGD,train/acc,train/loss,train/loss_step,val/acc,val/loss\n"


def read(tmp_path, content):
    Run(tmp_path).metrics_file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Run(tmp_path).read_history()


def test_rows_of_an_epoch_are_merged_and_steps_ignored(tmp_path):
    rows = ",0,0.1,,,,,\n0,49,0.1,,,0.9,,\n0,99,,0.5,0.75,,,\n0,99,,,,,0.25,1.5\n1,199,,0.625,0.5,,0.375,1.25\n"

    assert {curve: values.tolist() for curve, values in read(tmp_path, HEADER + rows).items()} == {
        "train_loss": [0.75, 0.5],
        "train_acc": [0.5, 0.625],
        "val_loss": [1.5, 1.25],
        "val_acc": [0.25, 0.375],
    }


def test_missing_metrics_are_nan(tmp_path):
    history = read(tmp_path, HEADER + "0,1,,0.5,1.0,,,\n2,3,,0.75,0.5,,0.625,\n")

    np.testing.assert_array_equal(history["train_acc"], [0.5, np.nan, 0.75])
    np.testing.assert_array_equal(history["val_acc"], [np.nan, np.nan, 0.625])
    np.testing.assert_array_equal(history["val_loss"], [np.nan] * 3)


def test_the_last_value_of_an_epoch_wins(tmp_path):
    assert read(tmp_path, HEADER + "0,1,,,,,0.25,\n0,1,,,,,0.5,\n")["val_acc"].tolist() == [0.5]


def test_epochs_may_be_written_as_floats(tmp_path):
    assert read(tmp_path, HEADER + "1.0,1,,,,,0.25,\n")["val_acc"].tolist()[1:] == [0.25]


@pytest.mark.parametrize("content", ["", HEADER, HEADER + "0,49,0.1,,,0.9,,\n", HEADER + "2,9,,,,\n", "a,b\n1,2\n"])
def test_a_history_can_be_empty(tmp_path, content):
    assert read(tmp_path, content) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER + "0,1,,0.5,0.7O,,,\n", r"metrics\.csv is damaged near line 2 \(could not convert string .* '0\.7O'"),
        (HEADER + "0,1,,0.5,1,,,\n,2,,0.5,1,,,\n", r"near line 3 \('' is not the number of an epoch"),
        (HEADER + "-1,1,,0.5,1,,,\n", r"'-1' is not the number of an epoch"),
        (HEADER + "0.5,1,,0.5,1,,,\n", r"'0\.5' is not the number of an epoch"),
        (HEADER + "1e300,1,,0.5,1,,,\n", r"'1e300' is not the number of an epoch"),
        (HEADER + "inf,1,,0.5,1,,,\n", r"'inf' is not the number of an epoch"),
        ("step,val/acc\n1,0.5\n", r"None is not the number of an epoch"),
        (b"epoch,val/acc\n0,\xff\n", r"metrics\.csv is damaged"),
        (f"epoch,val/acc\n0,{'1' * 200_000}\n", r"field larger than field limit"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CNN", "cnn"),
        ("MLP", "mlp"),
        ("DeepCNN", "deep_cnn"),
        ("ShallowCNN", "shallow_cnn"),
        ("SimpleCNN", "simple_cnn"),
        ("LeNet5", "le_net5"),
        ("Net5Wide", "net5_wide"),
    ],
)
def test_class_names_in_snake_case(name, expected):
    assert snake_case(name) == expected


def test_a_checkpoint_in_a_subfolder_belongs_to_its_run(tmp_path):
    run = Run(tmp_path / "checkpoints" / "version_0")  # a folder above it has the same name
    nested = run.checkpoints_folder / "epoch=1-val" / "acc=0.98.ckpt"
    nested.parent.mkdir(parents=True)

    assert Run.of_checkpoint(nested) == Run(nested.parent)
    run.config_file.write_text("trainer: {}")
    assert Run.of_checkpoint(nested) == run
    assert Run.of_checkpoint(run.checkpoint("best")) == run


def test_configs_are_named_after_their_networks(configs):
    from lightning_cnn import networks

    found = {path.stem for path in configs.glob("*mnist/*.yaml")}
    assert found == {snake_case(name) for name in networks.__all__} - {"fast_cnn", "three_stage_cnn"} | {
        "fast"
    }  # a recipe for two datasets


def test_the_lock_removes_what_a_killed_process_has_left(tmp_path):
    (tmp_path / ".config.yaml.x.part").write_text("half")

    with Run(tmp_path).lock():
        assert not list(tmp_path.rglob("*.part"))
