import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_files import encoded, model, node, tensor

from lightning_cnn.checkpoint import KEY
from lightning_cnn.checkpoint import onnx as onnx_format
from lightning_cnn.checkpoint.onnx import as_content, as_metadata, dump, is_onnx, load
from lightning_cnn.errors import UserError

METADATA = {"format": 1, "class_names": ["ä", "b"], "metrics": {"val/acc": 1.5e-7}, "epoch": 2}


def test_metadata_are_read_as_they_were_written():
    data = dump(encoded(model()), METADATA)

    assert is_onnx(data)
    assert load(data) == METADATA


def test_other_programs_read_the_file_and_its_metadata():
    found = onnx.load_from_string(dump(encoded(model()), METADATA))

    onnx.checker.check_model(found)
    ((key, text),) = [(entry.key, entry.value) for entry in found.metadata_props]
    assert key == KEY
    assert json.loads(text).items() >= METADATA.items()
    assert found.graph == model().graph


def test_a_file_of_another_program_has_no_metadata_of_ours():
    other = model()
    other.metadata_props.add(key="names", value="{0: 'a'}")

    assert load(encoded(other)) is None


@pytest.mark.parametrize("bit", [0, 6])
def test_every_changed_byte_is_noticed(bit):
    data = dump(encoded(model()), METADATA)
    unnoticed = []
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << bit
        try:
            load(bytes(damaged))
        except UserError:
            continue
        unnoticed.append(position)

    assert not unnoticed


@pytest.mark.parametrize("size", [1, 100, 250])
def test_a_truncated_file_is_refused(size):
    with pytest.raises(UserError):
        load(dump(encoded(model()), METADATA)[:-size])


def test_what_is_not_json_cannot_be_written():
    with pytest.raises(ValueError, match="Out of range float values"):
        dump(encoded(model()), {"loss": float("nan")})


def test_metadata_and_the_content_of_a_checkpoint_say_the_same():
    config = {"data": {"class_path": "my.Photos"}}
    own = {KEY: {"format": 1, "config": config}, "epoch": 3, "hyper_parameters": {}, "Photos": {"crc32_of_files": 5}}

    found = as_content(as_metadata({**own, "optimizer_states": [1], "EarlyStopping": {"wait": 1}}))

    assert found == {**own, "state_dict": {}}


@pytest.mark.parametrize("states", ["Photos", {"Photos": "evil"}])
def test_states_of_data_that_are_none_are_refused(states):
    with pytest.raises(UserError, match="its data_states is invalid"):
        as_content({"data_states": states})


def _edited(change):
    made = model()
    change(made)
    return encoded(made)


def _in_another_file(name):
    def change(made):
        weight = made.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.external_data.add(key="location", value=name)
        weight.data_location = TensorProto.EXTERNAL

    return _edited(change)


def _with_if(made):
    branch = helper.make_graph([node("Identity", "logits", "a")], "g", [], [])
    made.graph.node.append(node("If", "x", "y", then_branch=branch, else_branch=branch))


REFUSED = {
    "custom operator": (
        encoded(model([helper.make_node("Evil", ["a"], ["b"], domain="evil")])),
        "Evil of the domain evil",
    ),
    "operator of ONNX Runtime": (
        encoded(model([helper.make_node("EPContext", [], ["b"], domain="com.microsoft")])),
        "of the domain com.microsoft",
    ),
    "chance": (encoded(model([node("RandomNormal", "", "x", shape=[2])])), "operator RandomNormal, which no"),
    "text": (encoded(model([node("StringConcat", "x x", "y")])), "operator StringConcat, which no"),
    "branch": (_edited(_with_if), "attribute with the field 6"),
    "functions": (_edited(lambda made: made.functions.add(name="f")), "model with the field 25"),
    "training": (_edited(lambda made: made.training_info.add()), "model with the field 20"),
    "sparse tensor": (_edited(lambda made: made.graph.sparse_initializer.add()), "graph with the field 15"),
    "external data": (_in_another_file("weights.bin"), "its weights are in another file"),
    "external data outside": (_in_another_file("../../etc/passwd"), "its weights are in another file"),
    "external data in memory": (_in_another_file("*/_ORT_MEM_ADDR_/*"), "its weights are in another file"),
    "text among weights": (_edited(lambda made: made.graph.initializer.add(data_type=8, dims=[1])), "type 8"),
    "dims without numbers": (
        _edited(lambda made: made.graph.initializer.add(data_type=1, dims=[2**31, 2**31])),
        "a tensor of 4.612e\\+18 numbers in",
    ),
    "negative dims": (_edited(lambda made: made.graph.initializer.add(data_type=1, dims=[-1, 1])), "numbers in"),
    "many dims": (_edited(lambda made: made.graph.initializer.add(data_type=1, dims=[1] * 99)), "than 16 dimensions"),
    "NaN": (encoded(model(weights=[tensor("w", [np.nan, 1])])), "its weights are NaN or infinite"),
    "infinite float16": (encoded(model(weights=[tensor("w", [1, np.inf], np.float16)])), "are NaN or infinite"),
    "NaN in a constant": (
        encoded(model([node("Constant", "", "x", value=tensor("w", [np.nan, 1]))])),
        "its weights are NaN or infinite",
    ),
    "NaN as a list": (
        _edited(lambda made: made.graph.initializer.add(data_type=1, dims=[2], float_data=[np.nan, 1])),
        "its weights are NaN or infinite",
    ),
    "two graphs": (encoded(model()) * 2, "it has 2 graphs"),
    "two descriptions": (dump(dump(encoded(model()), METADATA), METADATA), "and 2 descriptions"),
    "no graph": (b"\x08\x08", "it has 0 graphs"),
    "text in place of a graph": (b"\x08\x08\x38\x05", "field 7 is a number"),
    "metadata without an end": (encoded(model()) + b"\x72\x0f\x0a\x0dlightning_cnn", "its metadata is not valid JSON"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_image_classifier_needs_is_refused(what):
    data, message = REFUSED[what]

    with pytest.raises(UserError, match=message):
        load(data)


def test_too_many_operators_are_refused(monkeypatch):
    monkeypatch.setattr(onnx_format, "MAX_OPERATORS", 4)

    with pytest.raises(UserError, match="it has 5 operators, more than 4"):
        load(encoded(model()))


def test_nested_metadata_are_refused():
    text = b"[" * 100_000

    with pytest.raises(UserError, match="its metadata is not valid JSON"):
        load(encoded(model()) + _entry(text))


def test_large_metadata_are_refused():
    with pytest.raises(UserError, match="its metadata has 5,000,000 bytes, more than 4,000,000"):
        load(encoded(model()) + _entry(b" " * 5_000_000))


def _entry(text: bytes) -> bytes:
    from lightning_cnn.checkpoint.protobuf import field

    return field(14, field(1, KEY.encode()) + field(2, text))


def test_single_infinite_numbers_are_bounds_of_operators():
    assert load(encoded(model(weights=[tensor("low", -np.inf)]))) is None
