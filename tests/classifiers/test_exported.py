import numpy as np
import pytest
import torch
from onnx_files import SIDE, encoded, model
from torchmetrics.classification import MulticlassF1Score

from lightning_cnn.classifiers.exported import ExportedClassifier
from lightning_cnn.errors import UserError

SHAPE = {"num_classes": 3, "in_channels": 1, "image_size": SIDE}


@pytest.fixture
def path(tmp_path) -> str:
    (tmp_path / "a.onnx").write_bytes(encoded(model()))
    return str(tmp_path / "a.onnx")


def test_logits_are_those_of_the_file_without_further_preprocessing(path):
    images = torch.full((2, 1, SIDE, SIDE), 255, dtype=torch.uint8)

    logits = ExportedClassifier(path, **SHAPE)(images)

    np.testing.assert_allclose(logits, [[0, 1, 2]] * 2, rtol=1e-6)


def test_it_is_tested_by_lightnings_trainer(path, trainer):
    images = torch.full((4, 1, SIDE, SIDE), 255, dtype=torch.uint8)
    loader = torch.utils.data.DataLoader([*zip(images, [2, 2, 2, 0], strict=True)], batch_size=3)

    (found,) = trainer().test(
        ExportedClassifier(path, metrics={"f1": MulticlassF1Score}, **SHAPE), loader, verbose=False
    )

    assert found["test/acc"] == 0.75
    assert {"test/loss", "test/f1"} < found.keys()
    assert found["test/loss"] == pytest.approx(np.log(np.exp([0, 1, 2]).sum()) - 1.5, rel=1e-5)


@pytest.mark.parametrize("other", [{"num_classes": 4}, {"in_channels": 3}, {"image_size": 28}])
def test_data_of_another_kind_are_refused(path, other):
    with pytest.raises(UserError, match=r"a\.onnx is for images \(1, 4, 4\) of 3 classes, but the data has "):
        ExportedClassifier(path, **{**SHAPE, **other})
