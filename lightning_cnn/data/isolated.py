"""Images whose decoders run in a process of their own, `decoder_process`. Used by `image_files`.

Pages of PDF are drawn, HEIC, AVIF and TIFF decoded, by large libraries. A file of a kilobyte can make them run forever,
crash, or print on stderr, so the process has limits. It is started when it is first needed, and decodes all such files.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

from lightning_cnn.data import decoder_process
from lightning_cnn.data.decoder_process import Answer, Request

#: The process of this one while it waits, by the number of this one: a fork must not use it.
_running: dict[int, "subprocess.Popen[bytes]"] = {}


def answers(content: bytes, wanted: Request) -> Iterator[Answer]:
    """Yield the answers of the process to a file, as `decoder_process` describes them.

    The last one is an error `time` or `crash` if the process has ended meanwhile.

    Args:
        content: The file.
        wanted: Its format and what is read of it.
    """
    process = _running.pop(os.getpid(), None) or _start()  # nobody else may use it meanwhile
    assert process.stdin is not None  # both are for mypy
    assert process.stdout is not None
    left = 1  # answers
    try:
        process.stdin.write(json.dumps({"request": wanted, "bytes": len(content)}).encode() + b"\n" + content)
        process.stdin.flush()
        while left:
            head, pixels = _read(process.stdout)
            left += head.get("pages", 0) - 1
            if left > wanted.pages or "last" in head:
                left = 0
            if not left:
                _keep(process)
            yield head, pixels
    except (BrokenPipeError, EOFError):
        left = 0
        yield {"error": "time" if _end(process) == -signal.SIGPROF else "crash"}, b""
    finally:
        if left:
            _end(process)


def _start() -> "subprocess.Popen[bytes]":
    # `-P`: the folder of the file has modules of this package, which are not to be found by others.
    command = [sys.executable, "-P", decoder_process.__file__]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing)


def _keep(process: "subprocess.Popen[bytes]") -> None:
    """Keep a process that waits for the next file."""
    if _running.setdefault(os.getpid(), process) is not process:
        _end(process)


def _end(process: "subprocess.Popen[bytes]") -> int:
    """End a process, unless it has ended, and return its status."""
    process.kill()
    for stream in (process.stdin, process.stdout):
        with suppress(OSError):  # what it has not read is lost
            stream.close()  # type: ignore[union-attr]  # both are pipes
    return process.wait()


def _read(stream: IO[bytes]) -> Answer:
    head: dict[str, Any] = json.loads(line) if (line := stream.readline()).endswith(b"\n") else {"bytes": -1}
    pixels = stream.read(max(0, head["bytes"]))
    if len(pixels) != head["bytes"]:
        raise EOFError("the process has ended")
    return head, pixels


def stop() -> None:
    """End the process, if it runs; the next file starts another one."""
    if process := _running.pop(os.getpid(), None):
        _end(process)


atexit.register(stop)
