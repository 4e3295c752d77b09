"""Plain values: what a checkpoint may hold, and no more of it than can be looked through."""

from collections import Counter, OrderedDict
from typing import Any

import torch
from torch import Tensor

#: How deep containers may lie in each other; those of a training are not ten deep.
DEEPEST = 64


class UnreadableError(Exception):
    """Why a file cannot be read as a checkpoint, in words that follow its name."""


def plain(value: Any, most: int) -> Any:
    """Return a copy of a value that holds nothing but plain types and tensors in main memory.

    What a file can make of them besides, a dictionary with other methods or a tensor with hooks, is not in the copy.

    Args:
        value: Made of `dict`, `Counter`, `list`, `tuple`, `set`, `str`, `int`, `float`, `bool`, None and tensors. An
            `OrderedDict` becomes a `dict`.
        most: How many objects and characters it may have, each counted wherever it occurs: few lists that hold each
            other can be more than any memory.

    Raises:
        UnreadableError: If there is anything else, or more, or deeper than `DEEPEST`.
    """
    return _Copier(most).copy(value)


class _Copier:
    def __init__(self, most: int) -> None:
        self.left = most

    def copy(self, value: Any, depth: int = 0) -> Any:
        kind = type(value)
        self.left -= 1 + len(value) if kind is str else 1
        if self.left < 0 or depth > DEEPEST:
            raise UnreadableError("it unfolds into more than a checkpoint holds")
        if kind is OrderedDict or kind is dict or kind is Counter:
            items = ((self.copy(key, depth + 1), self.copy(item, depth + 1)) for key, item in dict.items(value))
            return Counter(dict(items)) if kind is Counter else dict(items)
        if kind is list or kind is tuple or kind is set:
            return kind(self.copy(item, depth + 1) for item in value)
        if kind is str:
            return _text(value)
        if kind is Tensor:
            return _tensor(value)
        if kind is int or kind is float or kind is bool or value is None:
            return value
        raise UnreadableError(f"it holds a {kind.__name__}, which is no plain data")


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UnreadableError("it holds text that is none") from error
    return value


def _tensor(value: Tensor) -> Tensor:
    if value.layout is not torch.strided or value.device.type != "cpu" or value.is_quantized:
        raise UnreadableError("it holds a tensor that is not simply its numbers")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise UnreadableError("it holds a tensor of more numbers than are in the file")
    return value.detach()
