import onnx
import pytest

from lightning_cnn.checkpoint import protobuf
from lightning_cnn.checkpoint.protobuf import Reader, field, packed
from lightning_cnn.errors import UserError


def fields(data: bytes) -> list:
    return [*Reader().fields(memoryview(data))]


def test_fields_are_those_that_the_library_of_google_has_written():
    tensor = onnx.TensorProto(dims=[300, 2], data_type=1, name="ä" * 100, raw_data=b"\0" * 5)
    tensor.float_data.extend([1.0, 2.0])

    found = {item.number: item for item in fields(tensor.SerializeToString())}

    dims = [item for item in fields(tensor.SerializeToString()) if item.number == 1]
    assert [item.integer for item in dims] == [300, 2]  # of `dims`, ONNX's own definition has a field for each
    assert found[2].integer == 1
    assert bytes(found[4].content) == b"\0\0\x80?\0\0\0@"
    assert found[8].text == "ä" * 100
    assert bytes(found[9].content) == b"\0" * 5
    assert b"".join(bytes(item.encoded) for item in fields(tensor.SerializeToString())) == tensor.SerializeToString()


@pytest.mark.parametrize("size", [0, 1, 127, 128, 20_000])
def test_a_field_that_is_written_is_read_by_that_library(size):
    assert onnx.StringStringEntryProto.FromString(field(2, b"x" * size)).value == "x" * size


def test_packed_numbers_are_read():
    attribute = onnx.TensorProto(int64_data=[0, 300, 2**62])
    (found,) = fields(attribute.SerializeToString())

    assert packed(found.content) == [0, 300, 2**62]


def test_numbers_of_fixed_size_are_bytes():
    assert [bytes(item.content) for item in fields(b"\x0d1234\x0912345678")] == [b"1234", b"12345678"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0a\x05abc", "truncated"),
        (b"\x0d\x01", "truncated"),
        (b"\x08", "truncated"),
        (b"\x08\x80", "truncated"),
        (b"\x0b", "type 3"),
        (b"\x08" + b"\xff" * 11, "more than 64 bits"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", "truncated"),
    ],
)
def test_damage_is_named(data, message):
    with pytest.raises(UserError, match=f"its content is inconsistent .*{message}"):
        fields(data)


@pytest.mark.parametrize(
    ("data", "attribute"), [(b"\x08\x01", "content"), (b"\x0a\x00", "integer"), (b"\x0a\x01\xff", "text")]
)
def test_a_value_of_another_kind_is_refused(data, attribute):
    (found,) = fields(data)

    with pytest.raises(UserError, match="its content is inconsistent \\(field 1 is "):
        getattr(found, attribute)


def test_the_fields_of_all_messages_together_are_limited(monkeypatch):
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 3)
    reader = Reader()
    assert len([*reader.fields(memoryview(b"\x08\x01" * 2))]) == 2

    with pytest.raises(UserError, match="more than 3 fields, too many"):
        [*reader.fields(memoryview(b"\x08\x01" * 2))]
