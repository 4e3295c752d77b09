"""Build the content of a checkpoint from what its file holds: plain types and tensors, within limits."""

from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_cnn.errors import UserError

#: Values and characters in a checkpoint, each counted wherever it occurs, and levels of nesting.
MAX_VALUES, MAX_DEPTH = 1_000_000, 64
_TYPES = {"Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16}
_TYPES |= {"Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8}
_TYPES |= {"Bool": torch.bool, "ComplexDouble": torch.complex128, "ComplexFloat": torch.complex64}
#: Names in pickles.
DTYPES = {f"torch {name}Storage": dtype for name, dtype in _TYPES.items()}
ORDERED_DICT, COUNTER, SET = "collections OrderedDict", "collections Counter", "__builtin__ set"
TENSOR = "torch._utils _rebuild_tensor_v2"


class Call(NamedTuple):
    """A value that is still to be built.

    Attributes:
        function: `dict`, `storage`, or a name in a pickle.
        arguments: The items of a dictionary, otherwise a tuple of positional arguments.
    """

    function: str
    arguments: Any


def plain(value: Any, records: Mapping[str, bytearray] | None = None, limit: int = MAX_VALUES) -> Any:
    """Return a copy of a value in which every `Call` is built.

    Args:
        value: Made of `dict`, `list`, `tuple`, `str`, `int`, `float`, `bool`, None, tensors and calls.
        records: The bytes of the storages.
        limit: Most values and characters. Each counts wherever it occurs: a few lists that contain each other several
            times can expand to more than fits in memory.

    Raises:
        UserError: If there are other types, too many values or levels, invalid text, or wrong calls.
    """
    left = limit

    def copy(value: Any, depth: int) -> Any:
        nonlocal left
        kind = type(value)
        left -= 1 + len(value) if kind is str else 1
        if left < 0 or depth > MAX_DEPTH:
            raise UserError("it has too many values, or too many levels of nesting")
        if kind is Call:
            return _built(value.function, copy(value.arguments, depth), records or {})
        if kind is dict:
            return {copy(key, depth + 1): copy(item, depth + 1) for key, item in value.items()}
        if kind in (list, tuple):
            return kind(copy(item, depth + 1) for item in value)
        if kind is str and value.encode(errors="ignore").decode() != value:
            raise UserError("it has invalid Unicode text")
        if kind in (str, int, float, bool, type(None), Tensor):
            return value
        raise UserError(f"it has a value of the type {kind.__name__}, which is not plain data")

    return copy(value, 0)


def require_plain(value: Any, place: str) -> None:
    """Refuse to save what could not be read again.

    Args:
        value: A value that is about to be saved, at any depth.
        place: What it is, for the message.

    Raises:
        UserError: If a part of it is not a plain type or a dense tensor.
    """
    kind = type(value)
    if kind in (dict, OrderedDict, Counter):
        for key, item in value.items():
            require_plain(key, f"the keys of {place}")
            require_plain(item, f"{place}[{key!r}]")
    elif kind in (list, tuple, set):
        for item in value:
            require_plain(item, place)
    elif kind is Tensor and value.layout is torch.strided and not value.is_quantized:
        return
    elif kind not in (str, int, float, bool, type(None)):
        raise UserError(
            f"{place} has a value of the type {kind.__name__}, which checkpoints do not have; store numbers, text, "
            "lists, dictionaries and tensors"
        )


def _built(function: str, arguments: Any, records: Mapping[str, bytearray]) -> Any:
    match function, arguments:
        case "dict", items:
            return dict(items)
        case "storage", (dtype, key, size):
            record = records[f"data/{key}"]
            if len(record) == size * DTYPES[dtype].itemsize:
                return torch.frombuffer(record, dtype=DTYPES[dtype]) if record else torch.empty(0, dtype=DTYPES[dtype])
            raise UserError("it has a storage of another size than its record")
        case _, (Tensor() as storage, offset, shape, stride, _, _) if function == TENSOR:
            tensor = storage.as_strided(shape, stride, offset)
            if tensor.numel() <= storage.numel():
                return tensor
            raise UserError("it has a tensor with more elements than its storage")
        case _, (dict() as counts,) if function == COUNTER:
            return Counter(counts)
        case _, (list() as items,) if function == SET:
            return set(items)
    raise UserError(f"its pickle calls {function!a} with wrong arguments")
