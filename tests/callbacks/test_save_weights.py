import errno
from functools import partial

import pytest
import safetensors.torch
import torch
from lightning.pytorch import Trainer

from lightning_cnn.callbacks import SaveWeights
from lightning_cnn.classifiers import CNNClassifier
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.networks import CNN


def test_both_formats_have_the_last_weights_of_the_network(tiny_data, trainer, tmp_path, capsys):
    classifier = CNNClassifier()
    run = trainer(callbacks=[SaveWeights("weights.pth"), SaveWeights("weights.safetensors")])
    run.fit(classifier, datamodule=MNISTDataModule(val_size=170))

    out, after = capsys.readouterr().out, classifier.network.state_dict()
    for path, load in (
        (tmp_path / "weights.pth", partial(torch.load, weights_only=True)),
        (tmp_path / "weights.safetensors", safetensors.torch.load_file),
    ):
        network = CNN()
        network.load_state_dict(load(path))
        assert all(torch.equal(tensor, after[name]) for name, tensor in network.state_dict().items())
        assert f"Weights: {path}" in out


@pytest.mark.parametrize(("is_global_zero", "option"), [(False, None), (True, "fast_dev_run"), (True, "barebones")])
def test_other_ranks_and_a_run_without_a_folder_write_nothing(trainer, tmp_path, monkeypatch, is_global_zero, option):
    monkeypatch.setattr(Trainer, "is_global_zero", is_global_zero)
    run = trainer()
    for name in ("fast_dev_run", "barebones"):
        setattr(run, name, name == option)

    SaveWeights().on_fit_end(run, CNNClassifier())

    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(tiny_data, trainer, tmp_path, monkeypatch):
    (tmp_path / "model.pth").write_text("old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        trainer(callbacks=[SaveWeights()]).fit(CNNClassifier(), datamodule=MNISTDataModule(val_size=170))

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("model.pth", "old")]


@pytest.mark.parametrize(
    "filename", ["", ".", "..", "../a.pth", "/tmp/a.pth", "a/b.pth", "a/", "a\\b.pth", "C:a", "a\0"]
)
def test_an_invalid_filename_is_refused(filename):
    with pytest.raises(ValueError, match=r"filename must be a name without folders, such as model\.pth, got"):
        SaveWeights(filename)
