"""Untrusted protocol buffers: the fields of a message, without a library and without copies.

The package `onnx` would read them as well, but its import takes a fifth of the half second in which `predict` starts
with an ONNX file.

A message is a sequence of fields, each a number and a value; what a field means, and whether its value is a message
itself, only the reader knows. Nothing is nested here, so that no file can make it so.
See https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Iterator
from typing import NamedTuple

from lightning_cnn.errors import UserError

#: Fields that are read of one file, those of its messages included; a ResNet-152 has 30,000.
MAX_FIELDS = 500_000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


class Field(NamedTuple):
    """A field of a message.

    Attributes:
        number: Its number.
        value: A whole number, or the bytes of text, of a message or of numbers.
        encoded: The field as it is in the file.
    """

    number: int
    value: int | memoryview
    encoded: memoryview

    @property
    def content(self) -> memoryview:
        """The bytes; raises `UserError` if it is a number."""
        if isinstance(self.value, int):
            raise UserError(f"its content is inconsistent (field {self.number} is a number)")
        return self.value

    @property
    def integer(self) -> int:
        """The whole number; raises `UserError` if it is something else."""
        if not isinstance(self.value, int):
            raise UserError(f"its content is inconsistent (field {self.number} is not a number)")
        return self.value

    @property
    def text(self) -> str:
        """The text; raises `UserError` if it is not valid UTF-8."""
        try:
            return bytes(self.content).decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"its content is inconsistent (field {self.number} is not text)") from error


class Reader:
    """Reads the fields of messages, within a limit for all of them.

    Example:
        >>> name, number = Reader().fields(memoryview(field(1, b"ab") + bytes([16, 5])))
        >>> (name.number, name.text), (number.number, number.integer)
        ((1, 'ab'), (2, 5))
    """

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def fields(self, message: memoryview) -> Iterator[Field]:
        """Yield the fields of a message.

        Raises:
            UserError: If it ends within a field, has groups, which nothing writes any more, or too many fields.
        """
        position = 0
        while position < len(message):
            start = position
            tag, position = _varint(message, position)
            kind, number = tag & 7, tag >> 3
            value: int | memoryview
            if kind == _VARINT:
                value, position = _varint(message, position)
            elif kind == _BYTES or kind in _FIXED:
                size, position = _varint(message, position) if kind == _BYTES else (_FIXED[kind], position)
                value = message[position : position + size]
                if len(value) != size:
                    raise UserError("its content is inconsistent (it is truncated)")
                position += size
            else:
                raise UserError(f"its content is inconsistent (a field of the type {kind})")
            self._left -= 1
            if self._left < 0:
                raise UserError(f"it has more than {MAX_FIELDS:,} fields, too many")
            yield Field(number, value, message[start:position])


def field(number: int, content: bytes) -> bytes:
    """Return bytes as a field of a message."""
    return _encoded(number << 3 | _BYTES) + _encoded(len(content)) + content


def packed(content: memoryview) -> list[int]:
    """Return the whole numbers of a packed field, of which there are as many as fit into its bytes."""
    numbers, position = [], 0
    while position < len(content):
        number, position = _varint(content, position)
        numbers.append(number)
    return numbers


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the whole number at a position, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise UserError("its content is inconsistent (it is truncated)")
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise UserError("its content is inconsistent (a number has more than 64 bits)")


def _encoded(value: int) -> bytes:
    groups = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])
