import time
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from onnx_files import SIDE, encoded, model, node, tensor

from lightning_cnn.checkpoint import session as session_module
from lightning_cnn.checkpoint.session import Session
from lightning_cnn.errors import UserError

PATH = Path("a.onnx")
WHITE = np.full((1, 1, SIDE, SIDE), 255, np.uint8)


def test_logits_and_probabilities_are_those_computed_by_hand():
    session = Session(encoded(model()), PATH)

    logits, probabilities = session(np.concatenate([0 * WHITE, WHITE]))

    assert session.image_shape == (1, SIDE, SIDE)
    assert session.num_classes == 3
    np.testing.assert_allclose(logits, [[0, 0, 0], [0, 1, 2]], rtol=1e-6)
    np.testing.assert_allclose(probabilities, [[1 / 3] * 3, np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum()], rtol=1e-6)


@pytest.mark.parametrize("number", [0, 1, 7, 8, 9])
def test_any_number_of_images_is_computed_in_parts(number, monkeypatch):
    monkeypatch.setattr(session_module, "_VALUES", 4 * SIDE**2)
    images = np.random.default_rng(0).integers(0, 256, (number, 1, SIDE, SIDE), np.uint8)

    logits, probabilities = Session(encoded(model()), PATH)(images)

    assert logits.shape == probabilities.shape == (number, 3)
    np.testing.assert_allclose(logits[:, 2], 2 * images.mean(axis=(1, 2, 3)) / 255, rtol=1e-5)


def test_images_in_colour_are_read():
    assert Session(encoded(model(channels=3)), PATH).image_shape == (3, SIDE, SIDE)


REFUSED = {
    "floats": (model(input_type=TensorProto.FLOAT), "its input must be uint8 images"),
    "two channels": (model(channels=2), "its input must be uint8 images"),
    "no channels": (model(input_shape=["batch", SIDE, SIDE]), "its input must be uint8 images"),
    "any size": (model(input_shape=["batch", 1, "h", "w"]), "its input must be uint8 images"),
    "images of 5,000 pixels": (model(input_shape=["batch", 1, 5000, 1]), "its input must be uint8 images"),
    "one image": (model(input_shape=[1, 1, SIDE, SIDE]), "its input must be uint8 images"),
    "one output": (model(output_names=["probabilities"]), "its outputs must be float logits and probabilities"),
    "exchanged outputs": (model(output_names=["probabilities", "logits"]), "its outputs must be float logits and"),
    "one class": (model(classes=1), "its outputs must be \\(1, classes\\)"),
    "NaN": (
        model([node("Log", "minus", "nan"), node("Add", "means nan", "x")], [tensor("minus", [[-1]])], means="x"),
        "returns no probabilities",
    ),
    "an operator without its inputs": (model([node("Add", "nowhere means", "x")]), "is not a valid ONNX file"),
    "an invalid attribute": (model([node("Flatten", "means", "x", axis="a")]), "is not a valid ONNX file"),
    "much memory": (
        model(
            [node("Expand", "means shape", "x"), node("ReduceSum", "x", "y")],
            [tensor("shape", [2**20, 2**10], np.int64)],
            means="y",
        ),
        "it needs more than 1,073,741,824 bytes of memory",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_as_documented_is_refused(what):
    made, message = REFUSED[what]
    with pytest.raises(UserError, match=message) as raised:
        Session(encoded(made), PATH)
    assert str(raised.value).startswith("a.onnx ") and "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


def test_a_network_that_computes_for_long_is_stopped(monkeypatch):
    monkeypatch.setattr(session_module, "_SECONDS", 0.05)
    products = [node("MatMul", f"x{n} x{n}", f"x{n + 1}") for n in range(200)]
    nodes = [node("Expand", "means shape", "x0"), *products, node("ReduceMax", "x200", "most")]
    data = encoded(model(nodes, [tensor("shape", [700, 700], np.int64)], means="most"))

    start = time.monotonic()
    with pytest.raises(UserError, match=r"it takes more than 0\.05 s for one image"):
        Session(data, PATH)
    assert time.monotonic() - start < 30


def test_a_file_that_also_begins_like_one_of_another_format_is_read_as_onnx():
    made = model()
    made.ClearField("producer_name")
    data = bytearray(encoded(made))
    assert data[:2] == b"\x08\x08"
    data[2:2] = b"\x12\x04ORTM"  # the producer's name, where ONNX Runtime looks for its own format

    assert Session(bytes(data), PATH).num_classes == 3
