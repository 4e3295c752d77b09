import errno
import os
from pathlib import Path

import numpy
import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins import AsyncCheckpointIO, TorchCheckpointIO

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


@pytest.mark.parametrize("value", [numpy.float64(1), Path("a"), {"b": [object()]}, torch.nn.Parameter(torch.ones(1))])
def test_a_state_that_could_not_be_read_again_is_refused(last, value):
    content = CheckpointIO().load_checkpoint(last) | {"callbacks": {"Best": {"score": value}}}
    before = last.read_bytes()

    with pytest.raises(
        UserError, match=r"^the checkpoint\['callbacks'\]\['Best'\]\['score'\].* has a value of the type "
    ):
        CheckpointIO().save_checkpoint(content, last)

    assert last.read_bytes() == before


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


class Other(LightningModule):
    """A module of the user's, with a hyperparameter that is not plain data but loads with `weights_only=True`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).sum()

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(4, 1)))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def on_save_checkpoint(self, checkpoint):
        checkpoint["shape"] = torch.Size([1, 2])


def test_checkpoints_of_other_modules_are_resumed(trainer, tmp_path):
    first = trainer(ours=True, callbacks=[ModelCheckpoint(tmp_path)])
    first.fit(Other())

    second = trainer(ours=True, max_epochs=2)
    second.fit(Other(), ckpt_path=first.checkpoint_callback.best_model_path)

    assert second.global_step == 8


def test_a_missing_checkpoint_is_lightnings_error():
    with pytest.raises(FileNotFoundError):
        CheckpointIO().load_checkpoint("missing.ckpt")


def test_addresses_are_left_to_lightning():
    CheckpointIO().save_checkpoint({"epoch": 3}, "memory://folder/last.ckpt")

    assert CheckpointIO().load_checkpoint("memory://folder/last.ckpt") == {"epoch": 3}
    assert not list(Path().iterdir())


@pytest.mark.usefixtures("tiny_data")
def test_asynchronous_checkpoints_are_written(trainer, tmp_path):
    """`last.ckpt` is no link to `best.ckpt`, which is not written yet; a run that is stopped goes on."""

    def fit(max_epochs, resumed=None, *callbacks):
        run = trainer(
            ours=True, max_epochs=max_epochs, callbacks=[Checkpoints(), *callbacks], plugins=[AsyncCheckpointIO()]
        )
        run.fit(MLPClassifier(), datamodule=MNISTDataModule(batch_size=30, val_size=50), ckpt_path=resumed)
        return run

    assert type(fit(1).strategy.checkpoint_io.checkpoint_io) is CheckpointIO
    last = tmp_path / "checkpoints" / "last.ckpt"
    stopped = fit(9, last, EarlyStopping("val/acc", mode="max", min_delta=2.0, patience=1))

    assert stopped.current_epoch == 3
    assert fit(4, last).current_epoch == 4


def test_a_checkpoint_io_that_is_given_is_used(trainer):
    given = TorchCheckpointIO()

    assert trainer(ours=True, plugins=[given]).strategy.checkpoint_io is given
