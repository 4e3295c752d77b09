import io
import zipfile
from collections import Counter

import pytest
import torch
from chaos.damaged_checkpoints import archive, content, same
from chaos.payloads import rewrite

from lightning_cnn.checkpoint.archive import load
from lightning_cnn.checkpoint.plain import UnreadableError


@pytest.fixture(scope="module")
def sound() -> bytes:
    return archive(content(seed=0))


def test_what_torch_saves_is_loaded(sound):
    assert same(load(sound)["optimizer_states"], content(seed=0)["optimizer_states"])


def test_states_of_schedulers_and_of_random_numbers_are_loaded():
    value = {"milestones": Counter([3, 3, 5]), "random": list(range(1_250)), "torch": torch.get_rng_state(), "set": {1}}

    assert same(load(archive(value)), value)


def test_every_byte_of_a_weight_is_verified(sound):
    at = sound.index(content(seed=0)["state_dict"]["network.classifier.4.weight"].numpy().tobytes())

    torch.load(io.BytesIO(changed(sound, at)), weights_only=True)  # torch does not notice
    with pytest.raises(UnreadableError, match="it is not as it was written"):
        load(changed(sound, at))


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("archive/code/a.py", "it is an archive of something else"),
        ("other/data/99", "it is an archive of something else"),
        ("archive/../data/99", "it is an archive of something else"),
    ],
)
def test_records_of_others_are_refused(sound, record, reason):
    file = io.BytesIO(sound)
    with zipfile.ZipFile(file, "a") as zipped:
        zipped.writestr(record, "x")

    with pytest.raises(UnreadableError, match=reason):
        load(file.getvalue())


def test_a_record_that_is_there_twice_is_refused(sound):
    file = io.BytesIO(sound)
    with zipfile.ZipFile(file, "a") as zipped, pytest.warns(UserWarning, match="Duplicate name"):
        zipped.writestr("archive/data.pkl", "x")

    with pytest.raises(UnreadableError, match="two parts of the same name"):
        load(file.getvalue())


def test_compressed_records_are_refused(sound):
    with pytest.raises(UnreadableError, match="it is compressed"):
        load(rewrite(sound, lambda pickled: pickled, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("around", [(b"PK\3\4 more", b""), (b"", b"more")])
def test_there_is_nothing_around_the_archive(sound, around):
    with pytest.raises(UnreadableError, match=r"there is more in it than the archive|not as it was written"):
        load(around[0] + sound + around[1])


NUMBERS = b"K\x04t"  # how many there are, the last that is said of a storage
SHAPE = b"K\x00K\x04\x85"  # where they begin, and how many of them


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (NUMBERS, b"J\xff\xff\xff\x7ft"),
        (NUMBERS, b"\x8a\x06\x00\x00\x00\x00\x00\x40t"),
        (NUMBERS, b"J\xff\xff\xff\xfft"),
        (SHAPE, b"K\x00\x8a\x06\x00\x00\x00\x00\x00\x40\x85"),
        (SHAPE, b"K\x00\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85"),
        (SHAPE, b"K\x03K\x04\x85"),
        (SHAPE, b"J\xff\xff\xff\xffK\x04\x85"),
        (SHAPE, b"K\x00J\xff\xff\xff\xff\x85"),
    ],
)
def test_tensors_that_claim_more_than_there_is_are_refused(old, new):
    four = archive({"a": torch.zeros(4)})

    with pytest.raises(UnreadableError, match="it is more than plain data, or contradicts itself"):
        load(rewrite(four, lambda pickled: pickled.replace(old, new)))


@pytest.mark.parametrize(
    "pickled", [b"", b"\x80\x02", b"\x80\x02}", b"\x80\x02h\x05.", b"\x80\x02(t", b"\x80\x02s.", b"\xff"]
)
def test_broken_pickles_are_refused(sound, pickled):
    with pytest.raises(UnreadableError):
        load(rewrite(sound, lambda _: pickled))
