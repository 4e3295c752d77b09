"""Read what `torch.save` wrote, without importing, calling or hashing anything that the file names.

`torch.load(weights_only=True)` runs no code, but is not safe enough for untrusted files. It ignores the checksums of
the archive, and a few hundred bytes make it compute forever (nested tuples as keys of a dictionary) or allocate any
amount of memory (a `Counter` of an expanded tensor). So this module interprets the opcodes of the pickle itself, as
lists, tuples and `Call`s that are not executed; `plain` builds their values, within its limits.
"""

import io
import pickletools
import re
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

from lightning_cnn.checkpoint.plain import COUNTER, DTYPES, ORDERED_DICT, SET, TENSOR, Call, plain
from lightning_cnn.errors import ForeignError, UserError

_RECORD = re.compile(
    r"data\.pkl|data/\d+|byteorder|version|\.format_version|\.storage_alignment|\.data/serialization_id"
)
#: Bytes of the largest pickle that is read; that of a ResNet-152 with Adam has 230,000.
_MAX_PICKLE = 2**22
#: The names that a pickle of plain types and dense tensors refers to.
_NAMES = (ORDERED_DICT, COUNTER, SET, TENSOR, *DTYPES)
#: The opcodes of text and of integers.
_TEXT_AND_INTEGERS = ("BINUNICODE", "BININT", "BININT1", "BININT2")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


def is_archive(data: bytes) -> bool:
    """Whether a file, by its first bytes, is a ZIP archive."""
    return data.startswith(b"PK\x03\x04")


def load(data: bytes) -> Any:
    """Return the plain types and tensors that `torch.save` wrote.

    Raises:
        UserError: If the archive is damaged, or has anything else.
    """
    try:
        records = _records(data)
        return plain(_interpret(bytes(records["data.pkl"])), records)
    except UserError:
        raise
    except Exception as error:  # zipfile, pickletools and torch raise errors of many types
        raise UserError(f"it is truncated or damaged ({type(error).__name__})") from error


def first_entries(path: Path) -> list[Any]:
    """Return the text and the integers at the start of what `torch.save` wrote: keys and values in turn.

    Only the pickle is read and verified, not the tensors.

    Raises:
        UserError: If the archive is damaged.
    """
    try:
        with ZipFile(path) as archive:
            (member,) = [member for member in archive.infolist() if member.filename.endswith("/data.pkl")]
            if member.compress_type != ZIP_STORED or member.file_size > _MAX_PICKLE:
                raise UserError("it is not an archive as `torch.save` writes it")
            opcodes = islice(pickletools.genops(archive.read(member)), 12)
            return [argument for opcode, argument, _ in opcodes if opcode.name in _TEXT_AND_INTEGERS]
    except UserError:
        raise
    except Exception as error:  # as in `load`
        raise UserError(f"it is truncated or damaged ({type(error).__name__})") from error


def _records(data: bytes) -> dict[str, bytearray]:
    """Return the records of an archive by name; `zipfile` verifies the CRC of each."""
    with ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        folders, _, names = zip(*(member.filename.partition("/") for member in members), strict=True)
        if "archive_format" in names:
            raise UserError("it is a program of `torch.export`, which only `torch.export.load` reads")
        requirements = (
            members[0].header_offset == 0 and data[-22:-18] == b"PK\x05\x06",  # nothing before or after the archive
            len({*folders}) == 1 and len({*names}) == len(names) and all(map(_RECORD.fullmatch, names)),
            all(member.compress_type == ZIP_STORED for member in members),
            sum(member.file_size for member in members) <= len(data),
        )
        if not all(requirements):
            raise UserError("it is not an archive as `torch.save` writes it")
        records = {name: bytearray(archive.read(member)) for name, member in zip(names, members, strict=True)}
    if records.get("byteorder", b"little") != b"little":
        raise UserError("its numbers are not in little-endian byte order")
    return records


def _interpret(pickled: bytes) -> Any:
    """Return what a pickle holds, with a `Call` in place of all but numbers, text, lists and tuples."""
    if len(pickled) > _MAX_PICKLE:
        raise UserError(f"its pickle has more than {_MAX_PICKLE:,} bytes")
    stack: list[Any] = []
    marked: list[list[Any]] = []  # the stacks below each MARK
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(pickled):
        match opcode.name:
            case "PROTO" if argument == 2:
                pass
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
                stack.append(_CONSTANTS[opcode.name])
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append(Call("dict", []))
            case "MARK":
                marked.append(stack)
                stack = []
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(opcode.name[-1])
                stack[-size:] = [tuple(stack[-size:])]
            case "TUPLE":
                items, stack = stack, marked.pop()
                stack.append(tuple(items))
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "APPENDS":
                items, stack = stack, marked.pop()
                stack[-1].extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                stack[-1].arguments.append((key, value))
            case "SETITEMS":
                items, stack = stack, marked.pop()
                stack[-1].arguments.extend(zip(items[::2], items[1::2], strict=True))
            case "GLOBAL" if argument in _NAMES:
                stack.append(argument)
            case "REDUCE" if stack[-2] in _NAMES:
                arguments, name = stack.pop(), stack.pop()
                stack.append(Call("dict", []) if name == ORDERED_DICT else Call(name, arguments))
            case "BUILD":
                stack.pop()  # attributes of an OrderedDict, which becomes a dict
            case "BINPERSID":
                _, name, key, _, size = stack.pop()
                stack.append(Call("storage", (name, key, size)))
            case "STOP":
                return stack.pop()
            case _:
                raise ForeignError(f"its pickle has {opcode.name} {str(argument)[:60]!a}, which no checkpoint needs")
    raise UserError("its pickle has no end")
