from collections import Counter, OrderedDict

import pytest
import torch

from lightning_cnn.checkpoint.plain import DEEPEST, UnreadableError, plain


def test_plain_types_stay_what_they_are():
    value = {"a": [1, 2.5, None, True], "b": ("x", {3}), 4: Counter({1: 2})}

    copied = plain(value, most=100)

    assert copied == value
    assert type(copied[4]) is Counter and type(copied["b"]) is tuple


def test_an_ordered_dictionary_becomes_a_dictionary():
    assert type(plain(OrderedDict(a=1), most=10)) is dict


def test_tensors_are_shared_and_lose_what_is_attached():
    tensor = torch.nn.Parameter(torch.ones(2)) * 2

    (copied,) = plain([tensor], most=10)

    assert copied.data_ptr() == tensor.data_ptr()
    assert not copied.requires_grad


@pytest.mark.parametrize("value", [object(), len, int, b"a", 1j, torch.float32, torch.nn.Parameter(torch.ones(1))])
def test_other_types_are_refused(value):
    with pytest.raises(UnreadableError, match=r"^it holds a \w+, which is no plain data$"):
        plain([value], most=10)


def test_more_than_is_allowed_is_refused():
    assert plain([0] * 9, most=10) == [0] * 9
    for value in ([0] * 10, "x" * 10):
        with pytest.raises(UnreadableError, match="unfolds"):
            plain(value, most=10)


def test_what_is_too_deep_is_refused():
    value: list = []
    for _ in range(DEEPEST):
        value = [value]

    assert plain(value, most=1_000) == value
    with pytest.raises(UnreadableError, match="unfolds"):
        plain([value], most=1_000)


@pytest.mark.parametrize(
    "tensor", [torch.zeros(2).to_sparse(), torch.zeros(2, device="meta"), torch.zeros(1).expand(2)], ids=str
)
def test_tensors_that_are_not_simply_numbers_are_refused(tensor):
    with pytest.raises(UnreadableError, match="it holds a tensor"):
        plain(tensor, most=10)
