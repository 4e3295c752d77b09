import io
import zipfile
from collections import Counter, OrderedDict
from functools import partial

import pytest
import torch
from chaos.common import differences, saved
from chaos.damaged_checkpoints import content
from chaos.payloads import rewrite

from lightning_cnn.checkpoint import archive
from lightning_cnn.checkpoint.archive import load
from lightning_cnn.checkpoint.plain import plain
from lightning_cnn.errors import UserError


@pytest.fixture(scope="module")
def valid() -> bytes:
    return saved(content(seed=0))


def test_a_file_of_torch_save_is_loaded(valid):
    assert not [*differences(load(valid)["optimizer_states"], content(seed=0)["optimizer_states"])]


def test_states_of_schedulers_and_of_random_numbers_are_loaded():
    value = {"milestones": Counter([3, 3, 5]), "random": list(range(1_250)), "torch": torch.get_rng_state(), "set": {1}}
    value |= {"types": [None, True, False, -1, 2**40, 2.5, "é", (), (1,), (1, (2, "a"))], (1, "a"): {}}

    assert not [*differences(load(saved(value)), value)]


@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.bool),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
    ],
)
def test_tensors_are_loaded_as_torch_does(dtype):
    whole = torch.arange(24).reshape(2, 3, 4).to(dtype)
    tensors = [whole, whole[1], whole.mT, whole[:, ::2, 1:], whole[0, 0, 0], whole[:0], torch.nn.Buffer(whole).data]

    found = load(saved({"tensors": tensors}))["tensors"]

    assert not [*differences(found, tensors)]
    assert [tensor.stride() for tensor in found] == [tensor.stride() for tensor in tensors]
    found[0].zero_()
    assert not found[1].any()  # they share their storage


def test_attributes_of_dictionaries_and_tensors_are_dropped():
    shadowed = OrderedDict(a=1)
    shadowed.get = "shadowed"

    found = load(saved([shadowed, torch.ones(2, requires_grad=True)]))

    assert type(found[0]) is dict and found[0] == {"a": 1}
    assert not found[1].requires_grad


def test_every_byte_of_a_weight_is_verified(valid):
    at = valid.index(content(seed=0)["state_dict"]["network.classifier.4.weight"].numpy().tobytes())

    torch.load(io.BytesIO(changed(valid, at)), weights_only=True)  # torch does not notice
    with pytest.raises(UserError, match=r"it is truncated or damaged \(BadZipFile\)"):
        load(changed(valid, at))


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


NOT_AS_SAVED = "it is not an archive as `torch.save` writes it"


@pytest.mark.parametrize("record", ["archive/code/a.py", "other/data/99", "archive/../data/99"])
def test_unexpected_records_are_refused(valid, record):
    file = io.BytesIO(valid)
    with zipfile.ZipFile(file, "a") as zipped:
        zipped.writestr(record, "x")

    with pytest.raises(UserError, match=NOT_AS_SAVED):
        load(file.getvalue())


def test_a_duplicate_record_is_refused(valid):
    file = io.BytesIO(valid)
    with zipfile.ZipFile(file, "a") as zipped, pytest.warns(UserWarning, match="Duplicate name"):
        zipped.writestr("archive/data.pkl", "x")

    with pytest.raises(UserError, match=NOT_AS_SAVED):
        load(file.getvalue())


def test_compressed_records_are_refused(valid):
    with pytest.raises(UserError, match=NOT_AS_SAVED):
        load(rewrite(valid, lambda pickled: pickled, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("around", [(b"PK\3\4 more", b""), (b"", b"more")])
def test_bytes_around_the_archive_are_refused(valid, around):
    with pytest.raises(UserError, match=rf"{NOT_AS_SAVED}|inconsistent"):
        load(around[0] + valid + around[1])


def test_another_byte_order_is_refused(valid):
    with pytest.raises(UserError, match="its numbers are not in little-endian byte order"):
        load(rewrite(valid, lambda _: b"big", record="/byteorder"))


NUMEL = b"K\x04t"  # the number of elements, the last value of a storage
SHAPE = b"K\x00K\x04\x85"  # storage offset 0, shape (4,)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (NUMEL, b"J\xff\xff\xff\x7ft"),
        (NUMEL, b"\x8a\x06\x00\x00\x00\x00\x00\x40t"),
        (NUMEL, b"J\xff\xff\xff\xfft"),
        (SHAPE, b"K\x00\x8a\x06\x00\x00\x00\x00\x00\x40\x85"),
        (SHAPE, b"K\x00\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85"),
        (SHAPE, b"K\x03K\x04\x85"),
        (SHAPE, b"J\xff\xff\xff\xffK\x04\x85"),
        (SHAPE, b"K\x00J\xff\xff\xff\xff\x85"),
    ],
)
def test_tensors_larger_than_their_storage_are_refused(old, new):
    four = saved({"a": torch.zeros(4)})

    with pytest.raises(
        UserError, match=r"more elements than its storage|another size than its record|it is truncated or damaged"
    ):
        load(rewrite(four, lambda pickled: pickled.replace(old, new)))


@pytest.mark.parametrize(
    "pickled", [b"", b"\x80\x02", b"\x80\x02}", b"\x80\x02h\x05.", b"\x80\x02(t", b"\x80\x02s.", b"\xff"]
)
def test_broken_pickles_are_refused(valid, pickled):
    with pytest.raises(UserError):
        load(rewrite(valid, lambda _: pickled))


@pytest.fixture
def few(monkeypatch):
    """Let a checkpoint have at most 10,000 values: to count a million takes a second."""
    monkeypatch.setattr(archive, "plain", partial(plain, limit=10_000))


DOUBLED = b"q\x01h\x01\x86"  # (t, t) of the tuple t on the stack


@pytest.mark.timeout(60)
@pytest.mark.parametrize("value", [b"}(%sNu", b"}%sNs", b"c__builtin__\nset\n](%se\x85R", b"%s", b"](%sK\x01e"])
@pytest.mark.usefixtures("few")
def test_tuples_that_expand_to_too_many_values_are_refused(valid, value):
    some, many = (b"\x80\x02" + value % (b")" + count * DOUBLED) + b"." for count in (10, 40))

    assert load(rewrite(valid, lambda _: some))
    with pytest.raises(UserError, match="it has too many values"):
        load(rewrite(valid, lambda _: many))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("opcode", [b"\x85", b"\x85" + DOUBLED])
def test_too_deeply_nested_values_are_refused(valid, opcode):
    with pytest.raises(UserError, match="too many levels of nesting"):
        load(rewrite(valid, lambda _: b"\x80\x02)" + opcode * 200_000 + b"."))


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("few")
def test_copies_of_a_memoized_container_are_counted(valid):
    items = (b"J" + number.to_bytes(4, "little") + b"K\x00" for number in range(2_000))
    grown = b"}q\x01(" + b"".join(items) + b"u"
    copies = b"(" + b"ccollections\nCounter\nh\x01\x85R" * 200 + b"t"

    with pytest.raises(UserError, match="it has too many values"):
        load(rewrite(valid, lambda _: b"\x80\x02" + grown + copies + b"\x86."))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("function", [b"ccollections\nCounter\n", b"c__builtin__\nset\n"])
def test_a_counter_or_set_of_an_expanded_tensor_is_refused_at_once(function):
    expanded = saved({"a": torch.zeros(1).expand(10**9)})
    tensor = b"ctorch._utils\n_rebuild_tensor_v2"

    with pytest.raises(UserError, match="more elements than its storage"):
        load(rewrite(expanded, lambda pickled: pickled.replace(tensor, function + tensor)[:-2] + b"\x85Rs."))


def test_a_pickle_of_more_than_four_megabytes_is_refused(valid):
    def pickled(size: int) -> bytes:
        text = b"a" * (size - 10)
        return b"\x80\x02}X" + len(text).to_bytes(4, "little") + text + b"b."  # attributes, which are dropped

    assert load(rewrite(valid, lambda _: pickled(2**22))) == {}
    with pytest.raises(UserError, match="its pickle has more than 4,194,304 bytes"):
        load(rewrite(valid, lambda _: pickled(2**22 + 1)))
