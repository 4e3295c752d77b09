"""What `torch.save` writes, read as data: verified first, looked through next, and nothing in it run.

`torch.load` does not look at the checksums of an archive: a changed weight would go unnoticed. And even when it is told
to read weights only, a file can make it ask for any amount of memory, compute for ever or crash: by the name of a class
that makes large tensors, or by keys that are tuples of tuples of tuples.
"""

import io
import pickletools
import re
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import torch

from lightning_cnn.checkpoint.plain import DEEPEST, UnreadableError

_RECORD = re.compile(
    r"data\.pkl|data/\d+|byteorder|version|\.format_version|\.storage_alignment|\.data/serialization_id"
)
#: All that a checkpoint needs to name, to hold plain types and tensors.
_NAME = re.compile(
    r"collections (OrderedDict|Counter)|__builtin__ set|torch\._utils _rebuild_tensor_v2|torch [A-Z][A-Za-z0-9]*Storage"
)
#: How many objects and characters may be put together on the way to the content, each counted at every step.
_MOST_STEPS = 5_000_000
_GROW = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD")


def is_archive(data: bytes) -> bool:
    """Whether a file, by its first bytes, is an archive of whatever kind."""
    return data.startswith(b"PK\x03\x04")


def load(data: bytes) -> object:
    """Return what `torch.save` has written.

    Raises:
        UnreadableError: If it is not whole, or not made of plain types and tensors.
    """
    records = _records(data)
    _require_harmless(records["data.pkl"])
    try:
        # A new archive: torch, which reads archives in a way of its own, gets what was verified and nothing else.
        return torch.load(_archive(records), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its readers happen to raise
        raise UnreadableError("it is more than plain data, or contradicts itself") from error


def _records(data: bytes) -> dict[str, bytes]:
    """Return the parts of an archive by their names, each as long as it says and with the right checksum."""
    try:
        with ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _require_as_written(members, data)
            return {member.filename.partition("/")[2]: archive.read(member) for member in members}
    except UnreadableError:
        raise
    except Exception as error:  # zipfile raises whatever it happens to stumble over
        raise UnreadableError("it is not as it was written") from error


def _require_as_written(members: list[ZipInfo], data: bytes) -> None:
    folders, _, names = zip(*(member.filename.partition("/") for member in members), strict=True)
    if "data.pkl" not in names or len({*folders}) > 1 or not all(map(_RECORD.fullmatch, names)):
        raise UnreadableError("it is an archive of something else")
    if len({*names}) < len(names):
        raise UnreadableError("it has two parts of the same name")
    if any(member.compress_type != ZIP_STORED or member.compress_size != member.file_size for member in members):
        raise UnreadableError("it is compressed")
    if sum(member.file_size for member in members) > len(data):
        raise UnreadableError("it claims to hold more than its size")
    if members[0].header_offset > 0 or data[-22:-18] != b"PK\x05\x06":
        raise UnreadableError("there is more in it than the archive")


def _archive(records: dict[str, bytes]) -> io.BytesIO:
    file = io.BytesIO()
    with ZipFile(file, "w", ZIP_STORED) as archive:
        for name, record in records.items():
            archive.writestr(f"archive/{name}", record)
    file.seek(0)
    return file


class _Extent:
    """How large an object is that a pickle puts together.

    Attributes:
        objects: Itself and all that is in it, each counted wherever it occurs, and every character of texts.
        depth: How deep containers lie in each other.
    """

    def __init__(self, value: object) -> None:
        self.objects = 1 + (len(value) if isinstance(value, str) else 0)
        self.depth = 0

    def take_in(self, parts: list["_Extent"]) -> None:
        """Add what becomes part of it."""
        self.objects += sum(part.objects for part in parts)
        self.depth = max([self.depth, *(part.depth + 1 for part in parts)])


def _require_harmless(pickled: bytes) -> None:
    """Refuse a pickle that names what no checkpoint needs, or puts together more than one can look through.

    It is followed from step to step as torch will do it, with the sizes of the objects instead of the objects.
    """
    try:
        _follow(pickled)
    except (ValueError, IndexError, KeyError) as error:
        raise UnreadableError("it is not as torch writes it") from error


def _follow(pickled: bytes) -> None:
    stack: list[_Extent | None] = []  # None is a mark: all above it belongs together
    memo: dict[object, _Extent | None] = {}
    steps = 0
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL" and not _NAME.fullmatch(str(argument)):
            raise UnreadableError(f"it names {str(argument)[:60]!a}, and plain data needs no such name")
        if opcode.name == "PROTO" and argument != 2:
            raise UnreadableError(f"it is a pickle of protocol {argument}, which torch does not write")
        if opcode.name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif opcode.name == "MARK":
            stack.append(None)
        else:
            parts = _taken(stack, opcode)
            made = parts.pop() if opcode.name in _GROW else _Extent(argument)
            steps += 1 + sum(part.objects for part in parts)
            made.take_in(parts)
            if steps > _MOST_STEPS or made.depth > DEEPEST:
                raise UnreadableError("it unfolds into more than a checkpoint holds")
            stack.append(made)


def _taken(stack: list[_Extent | None], opcode: pickletools.OpcodeInfo) -> list[_Extent]:
    """Take from the stack what a step of the pickle takes, the last first."""
    taken = []
    single = len(opcode.stack_before)
    if pickletools.markobject in opcode.stack_before:
        while (part := stack.pop()) is not None:
            taken.append(part)
        single = opcode.stack_before.index(pickletools.markobject)
    for _ in range(single):
        if (part := stack.pop()) is None:
            raise ValueError("a mark where an object must be")
        taken.append(part)
    return taken
