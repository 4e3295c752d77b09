import pytest
import torch

from lightning_cnn.checkpoint.plain import MAX_DEPTH, Call, plain
from lightning_cnn.errors import UserError


def test_plain_values_are_unchanged():
    value = {"a": [1, 2.5, None, True], "b": ("x", torch.ones(2)), 4: {}}

    copied = plain(value)

    assert copied.keys() == value.keys()
    assert copied["a"] == value["a"] and type(copied["b"]) is tuple
    assert copied["b"][1] is value["b"][1]


@pytest.mark.parametrize("value", [object(), len, int, b"a", 1j, torch.float32, torch.nn.Parameter(torch.ones(1))])
def test_other_types_are_refused(value):
    with pytest.raises(UserError, match=r"^it has a value of the type \w+, which is not plain data$"):
        plain([value])


def test_more_values_than_the_limit_are_refused():
    assert plain([0] * 9, limit=10) == [0] * 9
    for value in ([0] * 10, "x" * 10, {1: 2, 3: 4, 5: 6, 7: 8, 9: 10}, (Call("dict", [(1, 2), (3, 4), (5, 6)]),)):
        with pytest.raises(UserError, match="too many values"):
            plain(value, limit=10)


def test_more_levels_than_the_limit_are_refused():
    value: list = []
    for _ in range(MAX_DEPTH):
        value = [value]

    assert plain(value) == value
    key: tuple = ()
    for _ in range(MAX_DEPTH):
        key = (key,)
    for deeper in ([value], {1: value}, {key: 1}, (value,), Call("dict", [(1, value)])):
        with pytest.raises(UserError, match="too many levels"):
            plain(deeper)


@pytest.mark.parametrize(
    "call",
    [
        Call("collections Counter", ("text",)),
        Call("collections Counter", (torch.ones(1),)),
        Call("__builtin__ set", ((1, 2),)),
        Call("torch._utils _rebuild_tensor_v2", (1, 0, (1,), (1,), False, {})),
        Call("os system", ("exit",)),
    ],
)
def test_calls_of_other_functions_or_with_wrong_arguments_are_refused(call):
    with pytest.raises(UserError, match=f"its pickle calls '{call.function}' with wrong arguments"):
        plain(call)
