import pytest
import torch

from lightning_cnn.callbacks import SaveWeights
from lightning_cnn.classifiers import CNNClassifier, DeepCNNClassifier
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.networks import CNN, DeepCNN


@pytest.mark.parametrize(("classifier_class", "network_class"), [(CNNClassifier, CNN), (DeepCNNClassifier, DeepCNN)])
def test_the_file_holds_the_last_weights_of_the_bare_network(
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


def test_nothing_half_written_is_left(tiny_data, trainer, tmp_path, monkeypatch):
    (tmp_path / "model.pth").write_text("old")

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        trainer(callbacks=[SaveWeights()]).fit(CNNClassifier(), datamodule=MNISTDataModule(val_size=170))

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("model.pth", "old")]
