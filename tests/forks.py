"""Python processes that tests start, as forks of one that has imported torch, Lightning and this package once.

A process takes seconds of a core to import these, and a fork hundredths of one. `Popen` is `subprocess.Popen`, with
the same process group, signals, environment, streams and status: the fork is a child of the process that asks for it.

    Popen([sys.executable, "-m", "lightning_cnn", "fit"])  # or -c CODE; other commands start as they do without this

A test of how a process starts needs a real one. So does a variable that is read once when torch is imported, such as
the number of threads, and a GPU.
"""

import atexit
import contextlib
import ctypes
import inspect
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
from checkout import PYTHONPATH

_PR_SET_CHILD_SUBREAPER = 36
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_ORIGINAL = subprocess.Popen._execute_child
_SIGNATURE = inspect.signature(_ORIGINAL)
#: What a fork cannot be asked for, and the value if it is not.
_PLAIN = {"preexec_fn": None, "pass_fds": (), "shell": False, "gid": None, "uid": None, "process_group": -1}


@dataclass
class Job:
    """A process to start.

    Attributes:
        command: The arguments of Python.
        folder: Its current folder.
        environment: Its environment.
        parent: The process whose child it becomes.
        is_leader: Whether it leads a session of its own.
        has_forks: Whether the processes that it starts are forks as well.
        imports: Modules to import once, for this job and those after it.
    """

    command: list[str]
    folder: str
    environment: dict[str, str]
    parent: int
    is_leader: bool
    has_forks: bool
    imports: Sequence[str]


class Popen(subprocess.Popen):  # type: ignore[type-arg]
    """A process, which is a fork if it runs a module or code of Python.

    Args:
        arguments: Those of `subprocess.Popen`.
        has_forks: Whether the processes that it starts are forks as well.
        imports: Modules that it finds imported, besides torch, Lightning and `fit`.
        options: Those of `subprocess.Popen`.
    """

    def __init__(self, *arguments: Any, has_forks: bool = False, imports: Sequence[str] = (), **options: Any) -> None:
        self.has_forks, self.imports = has_forks, imports
        super().__init__(*arguments, **options)

    def _execute_child(self, *arguments: Any) -> None:
        _execute_child(self, *arguments)


def _execute_child(process: Any, *arguments: Any) -> None:
    """Take the place of the function of this name in `subprocess.Popen`, which starts the process itself."""
    given = _SIGNATURE.bind(process, *arguments).arguments
    command = [given["args"]] if isinstance(given["args"], str | bytes) else list(map(os.fsdecode, given["args"]))
    is_plain = all(given[name] == value for name, value in _PLAIN.items())
    if sys.platform != "linux" or not is_plain or command[0] != sys.executable or command[1] not in ("-m", "-c", "-u"):
        _ORIGINAL(process, *arguments)
        return
    environment = dict(os.environ if given["env"] is None else given["env"])
    folder = os.path.abspath(given["cwd"] or ".")  # noqa: PTH100  # of bytes, too
    wishes = getattr(process, "has_forks", False), getattr(process, "imports", ())
    job = Job(command[1:], folder, environment, os.getpid(), given["start_new_session"], *wishes)
    streams = [given[name] for name in ("p2cread", "c2pwrite", "errwrite")]
    process.pid = _Server.fork(job, [own if own >= 0 else number for number, own in enumerate(streams)])
    process._child_created = True
    process._close_pipe_fds(*[given[n] for n in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")])


class _Server:
    """The process that forks others, which is started when it is needed."""

    connection: socket.socket | None = None
    lock = threading.Lock()

    @classmethod
    def fork(cls, job: Job, streams: list[int]) -> int:
        """Start a job, and return its process, which has become a child of this one."""
        prctl = ctypes.CDLL(None).prctl
        with cls.lock:
            connection = cls.connection = cls.connection or _start_server()
            prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # this one becomes its parent when the one between them ends
            try:
                request = json.dumps(asdict(job)).encode()
                socket.send_fds(connection, [len(request).to_bytes(4)], streams)
                connection.sendall(request)
                return int.from_bytes(_receive(connection, 4))
            finally:
                prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _start_server() -> socket.socket:
    """Start a process that forks others, and return the connection to it; it ends with this process."""
    ours, theirs = socket.socketpair()
    environment = os.environ | {"PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "forks", str(theirs.fileno())],
            stdin=subprocess.PIPE,  # not a device or file, in which Python would seek
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        ours.close()
        process.communicate()

    atexit.register(end)
    return ours


# In the server


def serve(connection: socket.socket) -> tuple[Job, list[int]]:
    """Fork a process for each job that arrives, and return in it alone."""
    for signum in _SIGNALS:  # it is in the process group of its parent
        signal.signal(signum, signal.SIG_IGN)
    while True:
        length, streams, _, _ = socket.recv_fds(connection, 4, 3)
        if not length:
            os._exit(0)
        job = Job(**json.loads(_receive(connection, int.from_bytes(length))))
        for module in job.imports:
            import_module(module)
        if (between := os.fork()) == 0:
            if os.fork():
                os._exit(0)
            while os.getppid() != job.parent:
                time.sleep(0.0005)
            connection.sendall(os.getpid().to_bytes(4))
            connection.close()
            return job, streams
        os.waitpid(between, 0)
        for stream in streams:
            os.close(stream)


def _receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise RuntimeError("the process that forks others has ended")
        received += part
    return received


# In a fork


def become(job: Job, streams: list[int]) -> NoReturn:
    """Run a job in this process, and end it as Python does."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, max(streams) + 1)
    if job.is_leader:
        os.setsid()
    if job.has_forks:
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            ours.close()
            for number in range(3):  # its parent's readers wait until nobody has them
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
            become(*serve(theirs))
        theirs.close()
        _Server.connection, _Server.lock = ours, threading.Lock()
        subprocess.Popen._execute_child = _execute_child  # type: ignore[method-assign]
    for signum in _SIGNALS:
        signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)
    _set_up(job)
    _exit(_run(job.command))


def _set_up(job: Job) -> None:
    """Set what Python, and packages when they are imported, find out about the process."""
    from lightning.fabric.utilities import rank_zero

    os.chdir(job.folder)
    os.environ.clear()
    os.environ.update(job.environment)
    known = len(PYTHONPATH.split(os.pathsep))
    given = [path for path in job.environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[: 1 + known] = ["" if job.command[0] == "-c" else job.folder, *given]
    tempfile.tempdir = None
    rank_zero.rank_zero_only.rank = rank_zero._get_rank() or 0
    np.random.seed()  # Python's own numbers differ by themselves


def _run(command: list[str]) -> int:
    """Run a module or code as `__main__`, and return the exit status."""
    if command[0] == "-u":
        sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
        command = command[1:]
    option, what, *arguments = command
    sys.argv = ["-c", *arguments]
    try:
        if option == "-m":
            sys.modules.pop(what, None)
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.modules["__main__"] = ModuleType("__main__")
            exec(compile(what, "<string>", "exec"), vars(sys.modules["__main__"]))
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except BaseException:  # noqa: BLE001  # it is printed
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _exit(status: int) -> NoReturn:
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status % 256)


def _import_all() -> None:
    from lightning_cnn.startup import quick_imports, set_environment

    set_environment()
    with quick_imports():
        import lightning_cnn.commands.fit
    for command in ("fit", "test"):
        lightning_cnn.commands.fit.parser_of(command)  # which is kept


if __name__ == "__main__":
    sys.modules["forks"] = sys.modules["__main__"]
    _import_all()
    become(*serve(socket.socket(fileno=int(sys.argv[1]))))
