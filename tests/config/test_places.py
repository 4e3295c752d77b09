import shutil

import pytest
import torch
import yaml

from lightning_cnn import checkpoint
from lightning_cnn.config.flags import CommandLine
from lightning_cnn.config.places import places_of, without_places
from lightning_cnn.config.request import read_request
from lightning_cnn.errors import UserError
from lightning_cnn.training.options import schema

CLASS = "lightning_cnn.data.MNISTDataModule"


def config(trainer=None, **data):
    return {"trainer": trainer or {}, "data": {"class_path": CLASS, "init_args": data}}


def test_a_checkpoint_decides_neither_processes_nor_places():
    trainer = {"devices": 1000, "num_nodes": 2, "strategy": "ddp", "accelerator": "tpu", "plugins": [], "max_epochs": 3}
    hostile = config(trainer, data_dir="/evil", root="/", labels="/etc/passwd", val_size=5)

    assert without_places(hostile, is_resumed=True) == config({"max_epochs": 3}, val_size=5)
    assert hostile["trainer"]["devices"] == 1000  # not changed


@pytest.mark.parametrize("content", [None, 5, {"trainer": 5, "data": []}, {"data": {"init_args": 5}}])
def test_malformed_settings_are_left_for_the_parser(content):
    assert without_places(content, is_resumed=True) == content


@pytest.mark.parametrize("is_resumed", [False, True])
def test_mirrors_are_not_taken_from_a_checkpoint(is_resumed):
    hostile = config(mirrors="http://evil.example", val_size=3)

    assert without_places(hostile, is_resumed) == config(val_size=3)


def test_images_per_step_are_of_a_training_and_not_without_limit():
    sizes = config(batch_size=64, eval_batch_size=10**9, global_batch_size=None)

    assert without_places(sizes, is_resumed=True) == config(batch_size=64, global_batch_size=None)
    assert without_places(sizes, is_resumed=False) == config()


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return the settings of this module in the config of a run."""
    monkeypatch.delenv("LIGHTNING_CNN_DATA_DIR", raising=False)
    path = tmp_path / "run/checkpoints/last.ckpt"
    path.parent.mkdir(parents=True)

    def places(content, is_resumed=True, path=path):
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        (tmp_path / "run/config.yaml").write_text(text)
        return places_of(path, {"class_path": CLASS}, is_resumed)

    return places


def test_a_run_says_itself_where_it_was_trained(own, tmp_path):
    (tmp_path / "images").mkdir()
    trainer = {"devices": 2, "strategy": "ddp", "logger": None, "max_epochs": 9, "default_root_dir": "elsewhere"}
    data = {"data_dir": "images", "batch_size": 9000, "eval_batch_size": 10, "val_size": 7}

    kept = {name: data[name] for name in ("data_dir", "batch_size", "eval_batch_size")}
    assert own(config(trainer, **data)) == config({"devices": 2, "strategy": "ddp"}, **kept)
    del kept["batch_size"]
    assert own(config(trainer, **data), is_resumed=False) == {"data": config(**kept)["data"]}


def test_folders_that_are_not_there_and_sizes_without_limit_are_left_out(own, tmp_path):
    data = {"data_dir": str(tmp_path / "gone"), "root": "gone", "labels": "\0", "eval_batch_size": 10**9}

    assert own(config(**data), is_resumed=False)["data"]["init_args"] == {}


def test_the_environment_goes_before_the_run(own, tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTNING_CNN_DATA_DIR", str(tmp_path))

    assert own(config(data_dir=str(tmp_path)))["data"]["init_args"] == {}


def test_other_data_a_copy_elsewhere_and_a_damaged_config_say_nothing(own, tmp_path):
    copy = tmp_path / "run/copy.ckpt"

    assert "data" not in own({"data": {"class_path": "other.Data", "init_args": {"root": "."}}})
    assert own(config(root="."), path=copy) == {}
    assert own("a: [") == {}


def test_the_data_folder_of_a_checkpoint_is_not_created(cli, fit, tmp_path, monkeypatch):
    run = fit("mnist/fast.yaml", "--model.channels", 4)
    content = checkpoint.read(run / "checkpoints/best.ckpt")
    settings = content[checkpoint.KEY]["config"]
    settings["data"]["init_args"] |= {"data_dir": str(tmp_path / "evil"), "eval_batch_size": 10**9}
    settings["trainer"] |= {"devices": 1000, "num_nodes": 1000}
    torch.save(content, tmp_path / "evil.ckpt")

    outcome = cli("test", "evil.ckpt")

    assert outcome.status == 0, outcome.err
    assert not (tmp_path / "evil").exists()
    found = read_request("fit", CommandLine(checkpoint="evil.ckpt"), schema("fit")).settings
    assert not {"devices", "num_nodes"} & found["trainer"].keys()
    assert not {"data_dir", "eval_batch_size"} & found["data"]["init_args"].keys()


def test_a_run_is_tested_and_resumed_in_the_places_of_its_training(cli, fit, tiny_data, monkeypatch, tmp_path):
    run = fit("mnist/fast.yaml", "--model.channels", 4, "--model.scheduler", "null", "--data.data_dir", tiny_data)
    monkeypatch.delenv("LIGHTNING_CNN_DATA_DIR")

    assert cli("test", run).status == 0
    assert cli("fit", run, "--trainer.max_epochs", 2).status == 0
    assert not (tmp_path / "data").exists()


def test_a_copy_needs_the_folder_of_its_images(cli, tmp_path):
    with pytest.raises(UserError, match=r"ImageFolderDataModule needs root; give --data\.root"):
        _of_copy(tmp_path)


def _of_copy(tmp_path):
    from chaos.damaged_checkpoints import content

    copied = content(0)
    data = {"class_path": "lightning_cnn.data.ImageFolderDataModule", "init_args": {"root": str(tmp_path)}}
    copied[checkpoint.KEY]["config"]["data"] = data
    torch.save(copied, tmp_path / "copy.ckpt")
    shutil.copy(tmp_path / "copy.ckpt", tmp_path / "other.ckpt")
    return read_request("test", CommandLine(checkpoint="other.ckpt"), schema("test"))
