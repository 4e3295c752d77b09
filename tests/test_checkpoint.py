import os
import pickle
import subprocess
import sys

import pytest
import torch

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.checkpoint import read, read_description, require_same_shapes, resolve, run_folder, run_folders
from lightning_cnn.errors import UserError


def make_run(folder, *names: str, time: int | None = None):
    (folder / "checkpoints").mkdir(parents=True)
    for name in names:
        (folder / "checkpoints" / f"{name}.ckpt").touch()
    if time is not None:
        os.utime(folder / "checkpoints", (time, time))
    return folder


# What a checkpoint says


def test_a_checkpoint_holds_plain_types_only(fit):
    run = fit("mnist/deep_cnn.yaml", "--data.batch_size", 64)

    for name in ("best", "last"):
        content = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert not list(foreign_objects(content))


def foreign_objects(value: object, path: str = "checkpoint"):
    """Walk through containers and yield what is neither plain nor a tensor, with the way to it."""
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) not in (str, int):
                yield f"key {key!r} of {path}"
            yield from foreign_objects(item, f"{path}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            yield from foreign_objects(item, f"{path}[{index}]")
    elif type(value) not in (str, int, float, bool, type(None), torch.Tensor):
        yield f"{path} is a {type(value)}"


def test_a_checkpoint_describes_itself(fit):
    run = fit("fashion_mnist/shallow_cnn.yaml", "--model.mean", 0.25)

    description = read_description(run / "checkpoints" / "last.ckpt")

    assert set(description) == {"config", "class_names", "framing", "metrics", "preprocessing", "versions"}
    model, data = description["config"]["model"], description["config"]["data"]
    assert model["class_path"] == "lightning_cnn.classifiers.ShallowCNNClassifier"
    assert model["init_args"]["optimizer"]["init_args"]["momentum"] == 0.9
    assert model["init_args"]["mean"] == 0.25
    assert data["class_path"] == "lightning_cnn.data.FashionMNISTDataModule"
    assert data["init_args"]["val_size"] == 50
    assert description["class_names"][:2] == ["T-shirt/top", "Trouser"]
    assert description["framing"] == {"side": 28, "by_mass": False}
    assert description["preprocessing"] == {"mean": 0.25, "std": 0.5}
    assert 0 <= description["metrics"]["val/acc"] <= 1
    assert description["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_a_checkpoint_of_a_bare_trainer_describes_itself_as_well(tiny_data, trainer, tmp_path):
    from lightning_cnn.classifiers import MLPClassifier
    from lightning_cnn.data import MNISTDataModule

    run = trainer()
    run.fit(MLPClassifier(std=0.5), datamodule=MNISTDataModule(val_size=50))
    run.save_checkpoint(tmp_path / "some.ckpt")

    config = read_description(tmp_path / "some.ckpt")["config"]

    assert config["model"]["init_args"] == {"mean": 0.0, "std": 0.5, "num_classes": 10, "label_smoothing": 0.0}
    assert config["model"]["class_path"].endswith(".MLPClassifier")
    assert config["data"]["class_path"].endswith(".MNISTDataModule")
    assert config["data"]["init_args"]["val_size"] == 50


def test_a_checkpoint_of_a_trainer_without_a_data_module_knows_neither_classes_nor_framing(trainer, tmp_path):
    from lightning_cnn.classifiers import MLPClassifier

    run = trainer()
    loader = torch.utils.data.DataLoader([(torch.zeros(1, 28, 28, dtype=torch.uint8), 0)] * 2)
    run.fit(MLPClassifier(), loader, loader)
    run.save_checkpoint(tmp_path / "some.ckpt")

    description = read_description(tmp_path / "some.ckpt")

    assert (description["class_names"], description["framing"]) == (None, None)
    assert list(description["config"]) == ["model"]


def test_one_reading_gives_the_weights_and_the_description(fit):
    path = fit("mnist/cnn.yaml") / "checkpoints" / "best.ckpt"

    content = read(path)

    assert content[checkpoints.KEY] == read_description(path)
    assert content["state_dict"].keys() == torch.load(path, weights_only=True)["state_dict"].keys()
    assert content[checkpoints.KEY]["framing"] == {"side": 20, "by_mass": True}


# What is not one


def test_text_is_no_checkpoint(tmp_path):
    (tmp_path / "a.ckpt").write_text("hello")

    with pytest.raises(UserError, match=r"a\.ckpt is no checkpoint, or damaged"):
        read_description(tmp_path / "a.ckpt")


def test_half_a_checkpoint_is_damaged(tmp_path):
    torch.save({checkpoints.KEY: {}, "weights": torch.zeros(1_000)}, tmp_path / "a.ckpt")
    (tmp_path / "a.ckpt").write_bytes((tmp_path / "a.ckpt").read_bytes()[:2_000])

    with pytest.raises(UserError, match=r"a\.ckpt is no checkpoint, or damaged"):
        read_description(tmp_path / "a.ckpt")


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], torch.zeros(2), {checkpoints.KEY: "hello"}])
def test_what_torch_saved_for_others_is_not_ours(tmp_path, content):
    torch.save(content, tmp_path / "a.ckpt")

    with pytest.raises(UserError, match=r"a\.ckpt is not a checkpoint of lightning-cnn"):
        read_description(tmp_path / "a.ckpt")


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_checkpoint_is_not_run(tmp_path, save):
    save({checkpoints.KEY: Malicious(str(tmp_path / "hacked"))}, tmp_path / "a.ckpt")

    with pytest.raises(UserError, match=r"a\.ckpt is no checkpoint, or damaged"):
        read_description(tmp_path / "a.ckpt")

    assert not (tmp_path / "hacked").exists()


# Weights that do not fit


def test_weights_of_the_same_shapes_fit():
    require_same_shapes({"a": torch.zeros(2, 3)}, {"a": torch.ones(2, 3)})


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"a": torch.zeros(3, 2)}, r"\(2, 3\) for a, the checkpoint \(3, 2\)"),
        ({}, r"\(2, 3\) for a, the checkpoint none"),
        ({"a": torch.zeros(2, 3), "b": torch.zeros(1)}, r"none for b, the checkpoint \(1,\)"),
    ],
)
def test_other_weights_are_named(found, message):
    with pytest.raises(UserError, match=message):
        require_same_shapes({"a": torch.zeros(2, 3)}, found)


# Which file is meant


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
