"""Servers in processes of their own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: A command that serves a model which is quick to open, in place of what its file has.
PROGRAM = """\
import lightning_cnn.serve.models as models
from serve.conftest import Brightness
models.open_model = lambda path, class_path: Brightness()
if __name__ == "__main__":
    from lightning_cnn.cli import run
    run()
"""


@dataclass
class Running:
    """A server that answers at an address."""

    process: "subprocess.Popen[str]"
    address: str

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def children(self) -> list[int]:
        """The numbers of its processes that answer."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in found if _is_worker(child)]

    def stop(self, signum: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal and return exit status and output."""
        self.process.send_signal(signum)
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out, err


@contextmanager
def started(*arguments: str, command: str = "serve", program: str = PROGRAM) -> Iterator[Running]:
    """Start the command of a program on a free port; it is killed at the end if it has not ended."""
    Path("served.py").write_text(program)
    Path("model.ckpt").touch()
    with running_process("served.py", command, "model.ckpt", *arguments) as server:
        yield server


@contextmanager
def running_process(*arguments: str) -> Iterator[Running]:
    """Start a server by these arguments of Python, on a free port; it is killed at the end if it has not ended."""
    argv = [sys.executable, *arguments, "--port", "0"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert process.stdout is not None
        lines = []
        while "model: " not in (line := process.stdout.readline()):
            assert line, (lines, process.stderr.read())
            lines.append(line)
        yield Running(process, re.search(r"http://\S+", line)[0])
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _is_worker(process: str) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:  # it has ended meanwhile
        return False


def wait_until(holds, seconds: float = 120) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
