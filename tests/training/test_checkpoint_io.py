import errno
import os

import pytest
import torch

from lightning_cnn.callbacks import Checkpoints
from lightning_cnn.classifiers import MLPClassifier
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.errors import UserError
from lightning_cnn.training.checkpoint_io import CheckpointIO


@pytest.fixture
def last(trainer, tiny_data, tmp_path):
    """The last checkpoint of a run."""
    run = trainer(ours=True, callbacks=[Checkpoints()], default_root_dir=tmp_path / "run")
    run.fit(MLPClassifier(), datamodule=MNISTDataModule(val_size=50))
    return tmp_path / "run" / "checkpoints" / "last.ckpt"


def test_what_is_saved_can_be_loaded(last):
    content = CheckpointIO().load_checkpoint(last)

    CheckpointIO().save_checkpoint(content, last.with_name("again.ckpt"))

    again = CheckpointIO().load_checkpoint(last.with_name("again.ckpt"))
    assert again.keys() == content.keys()
    assert all(torch.equal(again["state_dict"][name], weight) for name, weight in content["state_dict"].items())


def test_a_full_disk_keeps_the_older_checkpoint(last, monkeypatch):
    before = last.read_bytes()

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*last\.ckpt'"):
        CheckpointIO().save_checkpoint({"state_dict": {}}, last)

    assert last.read_bytes() == before
    assert {path.name for path in last.parent.iterdir()} == {"best.ckpt", "last.ckpt"}


def test_nothing_is_written_into_the_folder_for_temporary_files(last, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))

    CheckpointIO().save_checkpoint({}, last)

    assert torch.load(last, weights_only=True) == {}


def test_a_damaged_checkpoint_is_refused(last):
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)

    with pytest.raises(UserError, match="damaged"):
        CheckpointIO().load_checkpoint(last)
