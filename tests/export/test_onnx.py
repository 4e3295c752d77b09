from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from lightning_cnn import networks
from lightning_cnn.checkpoint.onnx import load
from lightning_cnn.checkpoint.session import Session
from lightning_cnn.classifiers import (
    CNNClassifier,
    DeepCNNClassifier,
    ImageClassifier,
    MLPClassifier,
)
from lightning_cnn.export.onnx import OPSET, ExportError, to_onnx

pytestmark = pytest.mark.usefixtures("quick_exports")

COLOUR = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "num_classes": 4, "in_channels": 3, "image_size": (20, 28)}
CLASSIFIERS = {
    "DeepCNN": DeepCNNClassifier,
    "MLP": MLPClassifier,
    "CNN": CNNClassifier,
    "ThreeStageCNN in colour": lambda: ImageClassifier(networks.ThreeStageCNN, **COLOUR),
    "FastCNN, mirrored and shifted": lambda: ImageClassifier(networks.FastCNN, test_time_flip=True, test_time_shift=2),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_file_computes_the_same_for_any_number_of_images(name):
    torch.manual_seed(0)
    classifier = CLASSIFIERS[name]().eval()
    images = np.random.default_rng(0).integers(0, 256, (5, *classifier.image_shape), np.uint8)

    data = to_onnx(classifier)

    assert load(data) is None  # nothing in it is refused
    session = Session(data, Path("a.onnx"))
    with torch.inference_mode():
        expected = classifier(torch.from_numpy(images))
    for number in (1, 5):
        logits, probabilities = session(images[:number])
        np.testing.assert_allclose(logits, expected[:number], atol=1e-5)
        np.testing.assert_allclose(probabilities, expected[:number].softmax(dim=1), atol=1e-6)


def test_the_file_is_always_the_same_and_has_no_names_of_this_machine():
    classifier = MLPClassifier().eval()
    data = to_onnx(classifier)
    assert to_onnx(classifier) == data

    found = onnx.load_from_string(data)
    onnx.checker.check_model(found, full_check=True)
    assert [(entry.domain, entry.version) for entry in found.opset_import] == [("", OPSET)]
    assert str(Path(__file__).parents[2]).encode() not in found.SerializeToString()
    assert not any(node.doc_string or len(node.metadata_props) for node in found.graph.node)


class Deciding(nn.Module):
    """Computes what its images tell it to."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.LazyLinear(num_classes)
        self.layer(torch.zeros(1, 784))

    def forward(self, images):
        return self.layer(images.flatten(1) if images.sum() > 0 else -images.flatten(1))


def test_a_network_that_is_no_graph_is_refused_in_one_line():
    with pytest.raises(ExportError, match=r"^the network Deciding cannot be exported as a graph: .*; `export"):
        to_onnx(ImageClassifier(Deciding).eval())
