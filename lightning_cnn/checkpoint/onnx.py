"""ONNX files: what `export` writes into them beside the network, and how those of strangers are read.

`load` looks at every operator and every tensor before anything computes them. It needs no library, and takes no more
memory than the file. See https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3 for the numbers of the fields.
"""

import hashlib
import json
import math
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from lightning_cnn.checkpoint.description import KEY, class_path
from lightning_cnn.checkpoint.protobuf import Field, Reader, field, packed
from lightning_cnn.config import json as strict
from lightning_cnn.errors import UserError

SUFFIX = ".onnx"
#: Names of the input and of the outputs.
INPUT, OUTPUTS = "images", ("logits", "probabilities")
#: Bytes of the largest file; computing with its weights takes three times as much memory.
MAX_BYTES = 2**29
#: Operators of the largest network; a ResNet-152 has 500.
MAX_OPERATORS = 10_000
#: Entries of the metadata that are not part of the description, but of a checkpoint.
_PROGRESS = ("hyper_parameters", "pytorch-lightning_version", "epoch", "global_step")
#: The entry for what a data module identifies the images of the training by.
_STATES = "data_states"
#: What stands in the place of the checksum while that is computed, and its entry, as `dump` writes it.
_BLANK = 64 * "0"
_CHECKSUM = re.compile(rb'"sha256": "[0-9a-f]{64}"')
#: Fields of messages: those that are looked at, and all that a file may have.
_GRAPH, _METADATA = 7, 14
_OF_MODEL = {1, 2, 3, 4, 5, 6, _GRAPH, 8, _METADATA}  # neither functions nor training
_NODE, _INITIALIZER = 1, 5
_OF_GRAPH = {_NODE, 2, _INITIALIZER, 10, 11, 12, 13, 14, 16}  # no sparse tensors
_OPERATOR, _ATTRIBUTE, _DOMAIN = 4, 5, 7
_OF_NODE = {1, 2, 3, _OPERATOR, _ATTRIBUTE, 6, _DOMAIN, 9}
_TENSOR, _TENSORS = 5, 10
_OF_ATTRIBUTE = {1, 2, 3, 4, _TENSOR, 7, 8, 9, _TENSORS, 13, 20}  # no graphs: an `If` or a `Loop` has them
_DIMS, _TYPE, _FLOATS, _RAW, _DOUBLES, _FILE, _LOCATION = 1, 2, 4, 9, 10, 13, 14
_OF_TENSOR = {_DIMS, _TYPE, _FLOATS, 5, 7, 8, _RAW, _DOUBLES, 11, 12, _FILE, _LOCATION, 16}  # no text
#: ONNX's numbers of the types of numbers that a tensor may have: all but text, complex numbers and 8-bit floats …
_TYPES = {*range(1, 8), *range(9, 14), 16, 21, 22}
#: … and of the floating-point types, which may be NaN.
_FLOATING = {1: "<f4", 10: "<f2", 11: "<f8"}
#: The most dimensions of a tensor.
_MAX_DIMS = 16
#: What an image classifier is made of; the others run code in turn, or compute with text, sequences or chance.
_NAMES = """\
Abs Add And ArgMax ArgMin Attention AveragePool BatchNormalization Cast CastLike Ceil Celu Clip Concat Constant
ConstantOfShape Conv ConvInteger ConvTranspose Cos CumSum DepthToSpace DequantizeLinear Div Dropout
DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gelu Gemm
GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish
Hardmax Identity InstanceNormalization LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization
LpPool MatMul MatMulInteger Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg NonZero Not OneHot Or PRelu
Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize RotaryEmbedding
Round ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Size Slice Softmax Softplus Softsign SpaceToDepth
Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor
"""
_OPERATORS = frozenset(_NAMES.split())


def is_onnx(data: bytes) -> bool:
    """Whether a file, by its first bytes, is of this format: it begins with its version, unlike safetensors."""
    return data[:1] == b"\x08" and data[8:9] != b"{"


def is_onnx_file(path: Path) -> bool:
    """Whether a file is of this format; one that cannot be read is not, and no pipe is opened, which would block."""
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                return is_onnx(file.read(9))
    return False


def dump(model: bytes, metadata: dict[str, Any]) -> bytes:
    """Return an ONNX file with metadata, as JSON under `lightning_cnn`, and the SHA-256 of both.

    Args:
        model: The file without metadata.
        metadata: What `load` returns; plain values.

    Raises:
        ValueError: If a value is not JSON, NaN for example.
        TypeError: Likewise.
    """
    before, _, after = json.dumps(metadata | {"sha256": _BLANK}, allow_nan=False).encode().rpartition(_BLANK.encode())
    text = before + _sha256(model, before, after).encode() + after
    return model + field(_METADATA, field(1, KEY.encode()) + field(2, text))


def load(data: bytes) -> dict[str, Any] | None:
    """Check an ONNX file, and return the metadata that `dump` wrote into it; None if another program wrote it.

    Raises:
        UserError: If the file is damaged, its SHA-256 does not match, or it has anything but the operators of an image
            classifier and the numbers of their weights.
    """
    reader, texts, others, graphs = Reader(), [], [], 0
    for part in reader.fields(memoryview(data)):
        _require_known("model", part, _OF_MODEL)
        if part.number == _METADATA:
            entry = {item.number: item for item in reader.fields(part.content)}
            if 1 in entry and entry[1].text == KEY:
                texts.append(entry[2].content if 2 in entry else memoryview(b""))
                continue
        if part.number == _GRAPH:
            graphs += 1
            _require_graph(reader, part.content)
        others.append(part.encoded)
    if graphs != 1 or len(texts) > 1:
        raise UserError(f"it has {graphs} graphs and {len(texts)} descriptions; a file has one of each")
    if not texts:
        if _CHECKSUM.search(data):  # no checksum covers the name of the description
            raise UserError("the name of its description is damaged")
        return None
    if len(texts[0]) > strict.MAX_BYTES:
        raise UserError(f"its metadata has {len(texts[0]):,} bytes, more than {strict.MAX_BYTES:,}")
    try:
        metadata = strict.parse_json(bytes(texts[0]))
    except (ValueError, TypeError) as error:
        raise UserError(f"its metadata is not valid JSON ({error!s:.200})") from error
    digest = str(metadata.pop("sha256", "")) or _BLANK
    before, _, after = bytes(texts[0]).rpartition(digest.encode())
    if digest != _sha256(*others, before, after):
        raise UserError("its SHA-256 does not match its content")
    return metadata


def as_content(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata in the form of a checkpoint, without weights, as `checkpoint.read` returns it.

    Raises:
        UserError: If they do not say correctly which images a network was trained on.
    """
    states = metadata.get(_STATES, {})
    if not isinstance(states, dict) or not all(isinstance(state, dict) for state in states.values()):
        raise UserError(f"its {_STATES} is invalid")
    progress = {name: metadata[name] for name in _PROGRESS if name in metadata}
    description = {name: value for name, value in metadata.items() if name not in (*progress, _STATES)}
    return {**states, **progress, KEY: description, "state_dict": {}}


def as_metadata(content: dict[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint says about itself as metadata, the opposite of `as_content`."""
    data = (class_path(content[KEY], "data") or "").rpartition(".")[2]
    states = {_STATES: {data: content[data]}} if isinstance(content.get(data), dict) else {}
    return {**content[KEY], **{name: content[name] for name in _PROGRESS if name in content}, **states}


def _sha256(*parts: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _require_graph(reader: Reader, graph: memoryview) -> None:
    operators = 0
    for part in reader.fields(graph):
        _require_known("graph", part, _OF_GRAPH)
        if part.number == _INITIALIZER:
            _require_tensor(reader, part.content)
        elif part.number == _NODE:
            operators += 1
            _require_node(reader, part.content)
    if operators > MAX_OPERATORS:
        raise UserError(f"it has {operators:,} operators, more than {MAX_OPERATORS:,}")


def _require_node(reader: Reader, node: memoryview) -> None:
    name = domain = ""
    for part in reader.fields(node):
        _require_known("operator", part, _OF_NODE)
        if part.number == _OPERATOR:
            name = part.text
        elif part.number == _DOMAIN:
            domain = part.text
        elif part.number == _ATTRIBUTE:
            for value in reader.fields(part.content):
                _require_known("attribute", value, _OF_ATTRIBUTE)
                if value.number in (_TENSOR, _TENSORS):
                    _require_tensor(reader, value.content)
    if domain not in ("", "ai.onnx"):
        raise UserError(f"it has the operator {name:.60} of the domain {domain:.60}, which is not one of ONNX's own")
    if name not in _OPERATORS:
        raise UserError(f"it has the operator {name:.60}, which no image classifier needs")


def _require_tensor(reader: Reader, tensor: memoryview) -> None:
    """Refuse a tensor that is larger than its bytes, in another file, or NaN or infinite."""
    dims: list[int] = []
    floating: list[memoryview] = []
    kind = 0
    for part in reader.fields(tensor):
        _require_known("tensor", part, _OF_TENSOR)
        if part.number == _FILE or (part.number == _LOCATION and part.value != 0):
            raise UserError("its weights are in another file, which is not read; store them in the file itself")
        if part.number == _TYPE:
            kind = part.integer
        elif part.number == _DIMS:
            dims += [part.integer] if isinstance(part.value, int) else packed(part.value)
        elif part.number in (_RAW, _FLOATS, _DOUBLES):
            floating.append(part.content)
        if len(dims) > _MAX_DIMS:
            raise UserError(f"it has a tensor with more than {_MAX_DIMS} dimensions")
    if kind not in _TYPES:
        raise UserError(f"it has a tensor of the type {kind}, which is not one of numbers")
    if math.prod(dims) > 2 * len(tensor):  # a byte holds two numbers of 4 bits
        raise UserError(f"it has a tensor of {math.prod(dims):.4g} numbers in {len(tensor):,} bytes")
    for numbers in floating if kind in _FLOATING and math.prod(dims) > 1 else ():
        dtype = np.dtype(_FLOATING[kind])
        if not np.isfinite(np.frombuffer(numbers, dtype, count=len(numbers) // dtype.itemsize)).all():
            raise UserError("its weights are NaN or infinite, perhaps because training has diverged")


def _require_known(kind: str, part: Field, known: set[int]) -> None:
    if part.number not in known:
        raise UserError(f"it has a {kind} with the field {part.number}, which no image classifier needs")
