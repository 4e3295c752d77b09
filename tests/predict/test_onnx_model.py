import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx_files import SIDE, encoded, model, node

from lightning_cnn.checkpoint.onnx import dump, is_onnx_file
from lightning_cnn.data.facts import Framing
from lightning_cnn.data.resize import Resize
from lightning_cnn.errors import ForeignError, UserError
from lightning_cnn.predict.model import open_model
from lightning_cnn.predict.onnx_model import OnnxModel
from lightning_cnn.predict.pipeline import Predictor

METADATA = {
    "format": 1,
    "class_names": ["cat", "dog", "cow"],
    "config": {"model": None, "data": None},
    "framing": {"size": [SIDE, SIDE], "mode": "pad", "channels": 1},
    "metrics": {"val/acc": 0.5},
    "preprocessing": {"mean": 0.0, "std": 1.0},
    "versions": {"torch": "2.10"},
    "epoch": 1,
    "global_step": 2,
    "pytorch-lightning_version": "2.6.6",
}
WHITE = np.full((1, 1, SIDE, SIDE), 255, np.uint8)


@pytest.fixture
def write(tmp_path):
    def write(made=None, metadata=METADATA, **changes):
        data = encoded(made or model())
        path = tmp_path / "a.onnx"
        path.write_bytes(data if metadata is None else dump(data, {**metadata, **changes}))
        return path

    return write


def test_a_file_says_what_its_classes_and_its_images_are(write):
    found = open_model(write())

    assert isinstance(found, OnnxModel)
    assert (found.class_names, found.image_shape) == (["cat", "dog", "cow"], (1, SIDE, SIDE))
    assert found.framing == Resize((SIDE, SIDE), "pad", 1)
    np.testing.assert_allclose(found.probabilities(WHITE)[0], np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum(), rtol=1e-6)
    best_two = Predictor(found).probabilities(WHITE)[0].argsort()[::-1][:2]
    assert [found.class_names[index] for index in best_two] == ["cow", "dog"]


def test_a_file_says_how_its_targets_were_smoothed(write):
    smoothed = {"model": {"class_path": "Net", "init_args": {"label_smoothing": 0.3}}, "data": None}

    plain, found = (Predictor(OnnxModel(write(config=config))) for config in (METADATA["config"], smoothed))

    assert (plain.min_confidence, found.min_confidence) == pytest.approx((0.8, 0.7 * 0.8 + 0.3 / 3))


def test_of_a_file_of_another_program_the_classes_are_numbered(write):
    found = OnnxModel(write(metadata=None))

    assert found.label_smoothing == 0
    assert found.description is None
    assert found.class_names == ["0", "1", "2"]
    assert found.framing == Resize((SIDE, SIDE), "crop", 1)


def test_images_of_28_pixels_are_framed_like_those_of_mnist(write):
    assert OnnxModel(write(model(input_shape=["n", 1, 28, 28]), None)).framing == Framing()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ["cat", "dog"]}, "has 2 class names, but its network has 3 classes"),
        ({"class_names": ["cat", "cat", "cow"]}, "its lightning_cnn.class_names is missing or invalid"),
        ({"format": 99}, "it needs a newer lightning-cnn"),
        ({"epoch": -1, "metrics": None}, "its epoch and lightning_cnn.metrics are missing or invalid"),
        ({"framing": {"size": [9, 9], "mode": "pad", "channels": 1}}, "its model is for \\(1, 4, 4\\)"),
        ({"preprocessing": {"mean": 0, "std": 0}}, "its lightning_cnn.preprocessing is missing or invalid"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(write, changes, message):
    with pytest.raises(UserError, match=message) as raised:
        OnnxModel(write(**changes))
    assert "\n" not in str(raised.value)


def test_operators_that_are_not_onnxs_own_are_refused(write):
    with pytest.raises(UserError, match=r"a\.onnx cannot be read as a checkpoint: it has the operator Loop, which no"):
        OnnxModel(write(model([node("Loop", "a b", "c")])))


def test_a_network_needs_no_class_of_the_user(write):
    with pytest.raises(UserError, match=r"--model my\.Net is for checkpoints"):
        open_model(write(), "my.Net")


def test_files_are_told_apart_by_their_content(write, tmp_path):
    assert is_onnx_file(write())
    (tmp_path / "b.onnx").write_text("text")
    assert not is_onnx_file(tmp_path / "b.onnx")
    assert not is_onnx_file(tmp_path)
    assert not is_onnx_file(tmp_path / "nowhere.onnx")
    with pytest.raises(ForeignError, match="nor a safetensors or ONNX file"):
        open_model(tmp_path / "b.onnx")


def test_neither_torch_nor_the_library_of_onnx_is_imported(write):
    code = f"""
import sys
from pathlib import Path
from lightning_cnn.commands import predict
from lightning_cnn.predict.model import open_model
open_model(Path({str(write())!r}))
print(sorted({{"torch", "onnx", "lightning", "scipy"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_without_onnx_runtime_the_extra_is_named(write, monkeypatch):
    monkeypatch.delitem(sys.modules, "lightning_cnn.predict.onnx_model", raising=False)
    monkeypatch.delitem(sys.modules, "lightning_cnn.checkpoint.session", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(UserError, match=r"is computed by onnxruntime; run scripts/bootstrap"):
        open_model(Path(write()))
