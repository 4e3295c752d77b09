import errno

import pytest
import safetensors.torch
import torch

from lightning_cnn.callbacks import SaveWeights
from lightning_cnn.classifiers import CNNClassifier, DeepCNNClassifier
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.networks import CNN, DeepCNN


@pytest.mark.parametrize(("classifier_class", "network_class"), [(CNNClassifier, CNN), (DeepCNNClassifier, DeepCNN)])
def test_the_file_has_the_last_weights_of_the_network(
    tiny_data, trainer, tmp_path, capsys, classifier_class, network_class
):
    classifier = classifier_class()
    run = trainer(callbacks=[SaveWeights("weights.pth")])
    run.fit(classifier, datamodule=MNISTDataModule(val_size=170))

    weights = torch.load(tmp_path / "weights.pth", weights_only=True)
    network = network_class()
    network.load_state_dict(weights)
    after = classifier.network.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in network.state_dict().items())
    assert f"Weights: {tmp_path / 'weights.pth'}" in capsys.readouterr().out


def test_a_full_disk_leaves_the_old_file(tiny_data, trainer, tmp_path, monkeypatch):
    (tmp_path / "model.pth").write_text("old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        trainer(callbacks=[SaveWeights()]).fit(CNNClassifier(), datamodule=MNISTDataModule(val_size=170))

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("model.pth", "old")]


def test_a_safetensors_file_has_the_same_weights(tiny_data, trainer, tmp_path):
    run = trainer(callbacks=[SaveWeights("weights.safetensors"), SaveWeights("weights.pth")])
    run.fit(CNNClassifier(), datamodule=MNISTDataModule(val_size=170))

    found = safetensors.torch.load_file(tmp_path / "weights.safetensors")

    expected = torch.load(tmp_path / "weights.pth", weights_only=True)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


@pytest.mark.parametrize(
    "filename", ["", ".", "..", "../a.pth", "/tmp/a.pth", "a/b.pth", "a/", "a\\b.pth", "C:a", "a\0"]
)
def test_a_path_is_refused(filename):
    with pytest.raises(ValueError, match=r"filename must be a name without folders, such as model\.pth, got"):
        SaveWeights(filename)
