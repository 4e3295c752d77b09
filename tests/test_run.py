import os
import subprocess
import sys

import pytest

from lightning_cnn.checkpoint import resolve, run_folder, run_folders
from lightning_cnn.errors import UserError


def make_run(folder, *names: str, time: int | None = None):
    (folder / "checkpoints").mkdir(parents=True)
    for name in names:
        (folder / "checkpoints" / f"{name}.ckpt").touch()
    if time is not None:
        os.utime(folder / "checkpoints", (time, time))
    return folder


def test_a_file_means_itself(tmp_path):
    file = make_run(tmp_path / "run", "epoch_3") / "checkpoints" / "epoch_3.ckpt"

    assert resolve(str(file), [], folder_means="best") == file


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_run_folder_means_its_best_or_last(tmp_path, name):
    run = make_run(tmp_path / "run", "best", "last")

    assert resolve(str(run), [], folder_means=name) == run / "checkpoints" / f"{name}.ckpt"


def test_a_word_means_the_first_run_that_has_it(tmp_path):
    runs = [
        make_run(tmp_path / "a", "last"),
        make_run(tmp_path / "b", "best", "last"),
        make_run(tmp_path / "c", "best"),
    ]

    assert resolve("best", runs, folder_means="last") == runs[1] / "checkpoints" / "best.ckpt"
    assert resolve("last", runs, folder_means="best") == runs[0] / "checkpoints" / "last.ckpt"


def test_what_is_not_there_is_named(tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(UserError, match=r"checkpoint nowhere\.ckpt does not exist"):
        resolve("nowhere.ckpt", [], folder_means="best")
    with pytest.raises(UserError, match=r"empty' is not the folder of a run"):
        resolve(str(tmp_path / "empty"), [], folder_means="best")
    with pytest.raises(UserError, match=r"no fitting run has a checkpoint best\.ckpt; train with `fit` first"):
        resolve("best", [make_run(tmp_path / "a", "last")], folder_means="best")


def test_finding_a_checkpoint_does_not_wait_for_torch():
    code = "import sys, lightning_cnn.checkpoint; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_runs_are_found_newest_checkpoint_first(tmp_path):
    old = make_run(tmp_path / "mnist-cnn" / "version_1", "last", time=1_000)
    new = make_run(tmp_path / "mnist-cnn" / "version_0", "last", time=3_000)
    other = make_run(tmp_path / "fashion_mnist-mlp" / "version_0", "last", time=2_000)
    (tmp_path / "mnist-cnn" / "version_2").mkdir()  # without checkpoints

    assert run_folders(tmp_path) == [new, other, old]
    assert run_folders(tmp_path / "nowhere") == []


def test_the_run_of_a_checkpoint_is_its_folder(tmp_path):
    assert run_folder(tmp_path / "run" / "checkpoints" / "best.ckpt") == tmp_path / "run"
    assert run_folder(tmp_path / "mail" / "best.ckpt") == tmp_path / "mail"


def test_the_checkpoint_before_the_last_can_be_meant(tmp_path):
    run = make_run(tmp_path / "run", "last", "previous")

    assert resolve("previous", [run], folder_means="last") == run / "checkpoints" / "previous.ckpt"


def test_a_name_that_no_file_can_have_is_refused():
    with pytest.raises(UserError, match=r"cannot be read \(file name too long\); give a file, a run folder"):
        resolve("x" * 5_000, [], folder_means="best")
