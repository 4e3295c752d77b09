import json
import struct

import pytest
import safetensors.torch
import torch
from chaos.common import differences
from chaos.damaged_checkpoints import content

from lightning_cnn.checkpoint import KEY
from lightning_cnn.checkpoint.safetensors import dump, load
from lightning_cnn.errors import UserError


@pytest.fixture
def valid() -> dict:
    return content(seed=0)


def test_the_file_has_weights_and_description_but_no_training_state(valid):
    found = load(dump(valid))

    assert found.keys() == valid.keys() - {"optimizer_states"}
    assert found[KEY] == valid[KEY]
    assert found["state_dict"].keys() == valid["state_dict"].keys()
    weights = {name: valid["state_dict"][name] for name in found["state_dict"]}
    assert not [*differences(found["state_dict"], weights)]


def test_the_same_checkpoint_gives_the_same_file(valid):
    assert dump(valid) == dump(load(dump(valid)))


def test_tied_and_channels_last_weights_are_written(valid):
    weight = torch.arange(24.0).reshape(1, 2, 3, 4)
    channels_last = weight.to(memory_format=torch.channels_last)
    valid["state_dict"] = {"a": weight, "b": weight, "c": channels_last, "d": torch.ones(2, dtype=torch.bfloat16)}

    found = load(dump(valid))["state_dict"]

    assert all(torch.equal(found[name], valid["state_dict"][name]) for name in "abcd")


def test_keys_become_text_and_tuples_lists(valid):
    valid["hyper_parameters"] = {"sizes": (1, 2), "names": {10: "a", 9: "b"}}

    assert load(dump(valid))["hyper_parameters"] == {"sizes": [1, 2], "names": {"10": "a", "9": "b"}}


def test_a_changed_weight_is_noticed(valid):
    data = bytearray(dump(valid))
    data[-1] ^= 1

    assert safetensors.torch.load(bytes(data))  # safetensors does not notice
    with pytest.raises(UserError, match="its SHA-256 does not match its content"):
        load(bytes(data))


@pytest.mark.parametrize(
    ("old", "new"), [(b"F32", b"I32"), (b"0.25", b"0.75"), (b"sha256", b"sha257"), (b'_cnn\\"', b'_cmn\\"')]
)
def test_a_changed_header_is_noticed(valid, old, new):
    data = dump(valid)
    assert old in data

    with pytest.raises(UserError, match="its SHA-256 does not match its content"):
        load(data.replace(old, new, 1))


def file(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def weight(*shape: int, start: int = 0, end: int = 4, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


ONE = json.dumps(weight(1)).encode()
HOSTILE = {
    "overlapping weights": file({"a": weight(1), "b": weight(1)}, bytes(4)),
    "bytes of no tensor": file({"a": weight(1)}, bytes(8)),
    "a tensor beyond the end": file({"a": weight(2, end=8)}, bytes(4)),
    "a shape that overflows": file({"a": weight(2**62, 4)}, bytes(4)),
    "a header of exabytes": struct.pack("<Q", 2**63) + b"{}",
    "a deep header": file(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "an unknown dtype": file({"a": weight(1, dtype="X9")}, bytes(4)),
    "a dtype unknown to torch": file({"a": weight(2, end=1, dtype="F4")}, bytes(1)),
    "a duplicate name": file(b'{"a":' + ONE + b',"a":' + ONE.replace(b"[0, 4]", b"[4, 8]") + b"}", bytes(8)),
    "metadata of numbers": file({"__metadata__": {KEY: 5}}),
    "metadata that is a list": file({"__metadata__": [KEY]}),
    "a deep description": file({"__metadata__": {KEY: "[" * 100_000}}),
    "a description that is a list": file({"__metadata__": {KEY: "[1]"}}),
    "a description that is a number of many digits": file({"__metadata__": {KEY: "9" * 10_000}}),
    "a description without a checksum": file({"__metadata__": {KEY: "{}"}}),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused(data):
    with pytest.raises(UserError):
        load(data)
