"""ONNX files that mean harm, for the commands that take them in place of a checkpoint."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from hostile.common import OUTSIDE, Case
from onnx import TensorProto, helper
from onnx_files import encoded, model, node, tensor
from PIL import Image

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.checkpoint.onnx import as_metadata, dump
from lightning_cnn.checkpoint.protobuf import field

#: The commands that read such a file, and what they write if it works.
COMMANDS = {
    "predict": ("predict", "m.onnx", "image.png", "--output", "out.json"),
    "test": ("test", "m.onnx"),
    "validate": ("validate", "--ckpt_path", "m.onnx"),
    "fit": ("fit", "m.onnx"),
    "export": ("export", "m.onnx", "--format", "onnx"),
}
WRITES = {"predict": ("out.json",), "test": ("test_*", "plots", "plots/*")}
HUGE = 2**40
#: Name, what makes the file, and the commands that may do their work.
Content = tuple[str, Callable[[], bytes], str]
SHAPE = ["batch", 1, 28, 28]


def cases(run: Path) -> Iterator[Case]:
    """Yield a case for each file and each command."""
    own = as_metadata(checkpoints.read(run / "checkpoints/best.ckpt"))
    for name, content, works in (*_damaged(own), *_operators(), *_sizes(), *_descriptions(own)):
        for command, argv in COMMANDS.items():
            yield Case(
                f"{name}, {command}", argv, _writer(content), WRITES.get(command, ()), may_work=command in works.split()
            )


def _writer(content: Callable[[], bytes]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "m.onnx").write_bytes(content())
        image = Image.new("L", (28, 28))
        image.paste(255, (12, 4, 16, 24))
        image.save(folder / "image.png")

    return write


def _file(*nodes: onnx.NodeProto, weights: tuple[onnx.TensorProto, ...] = (), means: str = "means") -> bytes:
    return encoded(model(nodes, weights, input_shape=SHAPE, classes=10, means=means))


def _damaged(own: dict[str, object]) -> Iterator[Content]:
    sound = dump(_file(), own)
    for share in (0.0, 0.1, 0.5, 0.9, 0.999):
        yield f"cut at {share}", lambda share=share: sound[: int(share * len(sound))], ""
    for seed in range(30):
        yield f"flipped {seed}", lambda seed=seed: _flipped(sound, seed), "predict"
        yield f"noise {seed}", lambda seed=seed: b"\x08" + random.Random(seed).randbytes(2_000), ""
    yield "text", lambda: b"hello", ""
    yield "zeros", lambda: b"\x08" + bytes(1_000_000), ""
    yield "a million fields", lambda: b"\x08\x08" + b"\x08\x01" * 1_000_000, ""
    yield "nested messages", lambda: _nested(50_000), ""
    yield "a million dimensions", lambda: _file(weights=(_dims([2] * 1_000_000),)), ""
    yield "a producer that is a format of ONNX Runtime", lambda: b"\x08\x08\x12\x04ORTM" + _file()[2:], "predict"
    yield "two graphs", lambda: _file() + _file(), ""
    yield "a second graph of nothing", lambda: _file() + field(7, b""), ""


def _flipped(data: bytes, seed: int) -> bytes:
    damaged = bytearray(data)
    damaged[random.Random(seed).randrange(len(data))] ^= 1 << seed % 8
    return bytes(damaged)


def _nested(depth: int) -> bytes:
    inner = b""
    for _ in range(min(depth, 500)):  # each level is a type of a sequence of the next
        inner = field(4, field(1, inner))
    return b"\x08\x08" + field(7, field(11, field(1, b"images") + field(2, inner)))


def _dims(dims: list[int]) -> onnx.TensorProto:
    return TensorProto(name="w", data_type=1, dims=dims)


def _external(location: str) -> bytes:
    weight = TensorProto(name="w", data_type=1, dims=[784], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", str(784 * 4))):
        weight.external_data.add(key=key, value=value)
    return _file(weights=(weight,))


def _in_place(change: Callable[[onnx.ModelProto], object]) -> bytes:
    made = model(input_shape=SHAPE, classes=10)
    change(made)
    return encoded(made)


def _loop(made: onnx.ModelProto, count: int) -> None:
    body = helper.make_graph(
        [node("Identity", "go", "again"), node("Add", "x x", "y")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    made.graph.initializer.extend([tensor("count", count, np.int64), tensor("true", True, np.bool_)])
    made.graph.node.insert(3, helper.make_node("Loop", ["count", "true", "means"], ["z"], body=body))


def _operators() -> Iterator[Content]:
    for location in ("weights.bin", f"{OUTSIDE}/evil", "/etc/passwd", "/dev/zero", "*/_ORT_MEM_ADDR_/*", "\0"):
        yield f"weights in {location!r}", lambda location=location: _external(location), ""
    for domain in ("evil", "com.microsoft", "ai.onnx.ml", "ai.onnx.contrib", "com.ms.internal.nhwc"):
        yield f"domain {domain}", lambda d=domain: _file(helper.make_node("Evil", ["means"], ["x"], domain=d)), ""
    for name in ("EPContext", "RandomNormal", "StringConcat", "ImageDecoder", "SequenceMap", "Scan", "Loop", "If", ""):
        yield f"operator {name}", lambda name=name: _file(node(name, "means", "x")), ""
    yield "a loop without end", lambda: _in_place(lambda made: _loop(made, 2**62)), ""
    yield "a function that calls itself", lambda: _in_place(_recursive), ""
    yield "a circle", lambda: _file(node("Add", "means b", "a"), node("Add", "means a", "b"), means="a"), ""
    yield "an operator that is not there", lambda: _file(node("Swish", "means", "x"), means="x"), "predict"
    yield (
        "names of 1,000,000 characters",
        lambda: _file(node("Neg", "means", "x" * 10**6), means="x" * 10**6),
        "predict",
    )
    yield "100,000 operators", lambda: _file(*(node("Neg", "means", f"x{n}") for n in range(100_000))), ""
    deep = [node("Neg", "means" if n == 0 else f"x{n}", f"x{n + 1}") for n in range(9_000)]
    yield "9,000 operators in a row", lambda: _file(*deep, means="x9000"), "predict"


def _recursive(made: onnx.ModelProto) -> None:
    call = helper.make_node("F", ["a"], ["b"], domain="own")
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    made.functions.append(helper.make_function("own", "F", ["a"], ["b"], [call], opset))
    made.opset_import.append(helper.make_opsetid("own", 1))
    made.graph.node.insert(3, helper.make_node("F", ["means"], ["z"], domain="own"))


def _sized(operator: str, number: int, **attributes: object) -> bytes:
    """Return a file that makes a tensor of so many numbers of one."""
    shape = tensor("shape", [1, number], np.int64)
    inputs = "shape" if operator == "ConstantOfShape" else "means shape"
    return _file(node(operator, inputs, "x", **attributes), node("ReduceMax", "x", "y"), weights=(shape,), means="y")


def _sizes() -> Iterator[Content]:
    for number in (2**27, 2**28, 2**33, HUGE, 2**62, -5):
        yield f"expanded to {number}", lambda n=number: _sized("Expand", n), "predict"
        yield f"tiled {number} times", lambda n=number: _sized("Tile", n), "predict"
        yield f"a constant of {number}", lambda n=number: _sized("ConstantOfShape", n), "predict"
    ramp = (tensor("zero", 0, np.int64), tensor("one", 1, np.int64), tensor("end", HUGE, np.int64))
    yield "a range", lambda: _file(node("Range", "zero end one", "x"), weights=ramp), "predict"
    pads = tensor("pads", [0, 0, 0, HUGE], np.int64)
    yield (
        "padding",
        lambda: _file(node("Pad", "means pads", "x"), node("ReduceMax", "x", "y"), weights=(pads,), means="y"),
        "",
    )
    depth = (tensor("index", [[1]], np.int64), tensor("depth", HUGE, np.int64), tensor("two", [0, 1]))
    one_hot = (node("OneHot", "index depth two", "x"), node("ReduceMax", "x", "y"))
    yield "a one-hot vector", lambda: _file(*one_hot, weights=depth, means="y"), ""
    shape = tensor("shape", [4_500, 4_500], np.int64)
    products = [node("MatMul", f"x{n} x{n}", f"x{n + 1}") for n in range(200)]
    long = (node("Expand", "means shape", "x0"), *products, node("ReduceMax", "x200", "y"))
    yield "products without end", lambda: _file(*long, weights=(shape,), means="y"), ""
    yield "dims without numbers", lambda: _file(weights=(_dims([HUGE]),)), ""
    yield "negative dims", lambda: _file(weights=(_dims([-1, 5]),)), ""
    yield "NaN", lambda: _file(weights=(tensor("w", [np.nan] * 784),)), ""
    yield "infinite weights", lambda: _file(weights=(tensor("w", [np.inf, 1]),)), ""
    yield (
        "huge weights",
        lambda: _file(node("Mul", "means w", "x"), weights=(tensor("w", [[3e38]]),), means="x"),
        "predict",
    )
    nan = (node("Sub", "means means", "o"), node("Div", "o o", "x"))
    yield "a network that returns NaN", lambda: _file(*nan, means="x"), ""
    for name, changed in (
        ("images of 10^9 pixels", {"input_shape": ["b", 1, 10**9, 10**9]}),
        ("images without a size", {"input_shape": ["b", 1, "h", "w"]}),
        ("images of negative size", {"input_shape": ["b", 1, -1, 28]}),
        ("images of text", {"input_type": TensorProto.STRING}),
        ("10^6 classes", {"classes": 10**6, "input_shape": SHAPE}),
    ):
        yield name, lambda changed=changed: encoded(model(**changed)), "predict"


def _descriptions(own: dict[str, object]) -> Iterator[Content]:
    config = own["config"]
    data, described = {"class_path": "lightning_cnn.data.MNISTDataModule"}, {"class_path": "os.system"}
    changes: dict[str, tuple[dict[str, object], str]] = {
        "nothing": ({}, "predict test validate"),
        "a class of the system as data": ({"config": {**config, "data": described}}, "predict"),
        "a loss of the system": (
            {"config": {"data": data, "model": {"class_path": "x.Y", "init_args": {"loss": described}}}},
            "predict",
        ),
        "a path in the model": (
            {"config": {"data": data, "model": {"class_path": "x.Y", "init_args": {"path": "/etc/passwd"}}}},
            "predict test validate",
        ),
        "no config": ({"config": None}, ""),
        "config of text": ({"config": "evil"}, ""),
        "data that are the class itself": (
            {"config": {"data": {"class_path": "lightning_cnn.classifiers.exported.ExportedClassifier"}}},
            "predict",
        ),
        "equal class names": ({"class_names": ["a"] * 10}, ""),
        "three class names": ({"class_names": ["a", "b", "c"]}, ""),
        "class names of control characters": ({"class_names": ["\x1b[31m", *"123456789"]}, ""),
        "class names of formulas": ({"class_names": ["=1+1", *"123456789"]}, "predict test validate"),
        "framing of 10^9 pixels": ({"framing": {"size": [10**9, 10**9], "mode": "pad", "channels": 1}}, ""),
        "framing of another kind": ({"framing": {"evil": 1}}, "test validate"),
        "std of 0": ({"preprocessing": {"mean": 0, "std": 0}}, ""),
        "states of text": ({"data_states": {"MNISTDataModule": "evil"}}, ""),
        "states that are weights": ({"data_states": {"state_dict": {"w": 1}}}, "predict test validate"),
        "a later format": ({"format": 99}, ""),
        "a negative epoch": ({"epoch": -1}, ""),
    }
    for name, (change, works) in changes.items():
        yield f"description: {name}", lambda change=change: dump(_file(), {**own, **change}), works
    for name, text in (("NaN", b'{"a": NaN}'), ("depth", b'{"a":' * 5_000), ("size", b" " * 10**7), ("text", b"[]")):
        yield f"JSON: {name}", lambda text=text: _file() + field(14, field(1, b"lightning_cnn") + field(2, text)), ""
