import numpy as np
import onnx
import pytest
import torch

from lightning_cnn.classifiers import CNNClassifier
from lightning_cnn.data.batches import Images, SequentialLoader
from lightning_cnn.export.onnx import to_onnx
from lightning_cnn.export.quantize import AccuracyError, Calibration, Quantization, quantized

pytestmark = pytest.mark.usefixtures("quick_exports")


def loader(number: int, batch_size: int) -> SequentialLoader:
    pixels = torch.arange(number, dtype=torch.int64)[:, None, None, None].expand(number, 1, 28, 28)
    return SequentialLoader(Images((pixels % 251).to(torch.uint8), torch.zeros(number, dtype=torch.long)), batch_size)


@pytest.mark.parametrize(("number", "chosen"), [(10, 10), (1024, 1024), (3000, 1024)])
def test_calibration_images_are_spread_over_all_of_them(number, chosen):
    images = Calibration(loader(number, 7)).images

    assert images.shape == (chosen, 1, 28, 28) and images.dtype == np.uint8
    step = max(1, number // 1024)
    assert images[:5, 0, 0, 0].tolist() == [step * row for row in range(5)]


def test_batches_end_with_none():
    calibration = Calibration(loader(65, 65))

    assert [len(calibration.get_next()["images"]) for _ in range(2)] == [64, 1]
    assert calibration.get_next() is None


def test_weights_become_8_bit_integers_with_a_scale_for_each_channel():
    torch.manual_seed(0)

    found = onnx.load_from_string(quantized(to_onnx(CNNClassifier().eval()), Calibration(loader(50, 50))))

    onnx.checker.check_model(found)
    weights = {tuple(w.dims): w.data_type for w in found.graph.initializer if len(w.dims) > 1}
    assert {*weights.values()} == {onnx.TensorProto.INT8}
    assert (32, 1, 3, 3) in weights and len(weights) == 4
    scales = [tuple(w.dims) for w in found.graph.initializer if w.data_type == onnx.TensorProto.FLOAT]
    assert (32,) in scales and (64,) in scales
    assert {node.domain for node in found.graph.node} == {""}


def test_accuracy_decides_by_validation_images():
    cost = Quantization(10, 1000, 0.905, 0.91)

    assert str(cost) == "validation accuracy 90.50 %, that of the checkpoint 91.00 % (1,000 images)"
    cost.require_accurate(0.51)
    with pytest.raises(AccuracyError, match=r"quantization costs 0\.50 percentage points of .* 0\.3:"):
        cost.require_accurate(0.3)
