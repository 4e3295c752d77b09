"""Handwritten ONNX files: a classifier of a few operators with weights that are easy to compute by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: Height and width of the images.
SIDE = 4


def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """Return an operator; the names of inputs and outputs are separated by spaces."""
    return helper.make_node(operator, inputs.split(), outputs.split(), **attributes)


def tensor(name: str, values: Any, dtype: Any = np.float32) -> onnx.TensorProto:
    """Return weights."""
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def model(
    nodes: Sequence[onnx.NodeProto] = (),
    weights: Sequence[onnx.TensorProto] = (),
    channels: int = 1,
    input_type: int = TensorProto.UINT8,
    input_shape: Sequence[int | str] | None = None,
    output_names: Sequence[str] = ("logits", "probabilities"),
    classes: int = 3,
    means: str = "means",
) -> onnx.ModelProto:
    """Return a classifier whose logits are 0, the mean of the pixels / 255, and twice that.

    Args:
        nodes: More operators, which may use the means, `(B, 1)`.
        weights: What they need besides.
        channels: Channels of the images.
        input_type: Type of the pixels.
        input_shape: Shape of the input, in place of `(batch, channels, SIDE, SIDE)`.
        output_names: Names of the outputs.
        classes: Number of classes, for other logits.
        means: What the logits are computed from, `(B, 1)`.
    """
    own = [
        node("Cast", "images", "floats", to=TensorProto.FLOAT),
        node("Flatten", "floats", "flat"),
        node("ReduceMean", "flat", "means", axes=[1], keepdims=1),
        *nodes,
        node("MatMul", f"{means} scale", "logits"),
        node("Softmax", "logits", "probabilities", axis=1),
    ]
    shape = input_shape or ["batch", channels, SIDE, SIDE]
    graph = helper.make_graph(
        own,
        "classifier",
        [helper.make_tensor_value_info("images", input_type, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", classes]) for name in output_names],
        [tensor("scale", [np.arange(classes) / 255]), *weights],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8, producer_name="tests")


def encoded(written: onnx.ModelProto) -> bytes:
    """Return the file."""
    data: bytes = written.SerializeToString()
    return data
