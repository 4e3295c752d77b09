"""The processes of a server: how they start, and how they end after they have answered what they have accepted."""

import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import parent_process
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from lightning_cnn import signals
from lightning_cnn.errors import Interrupted, UserError, reason
from lightning_cnn.serve.app import create_app
from lightning_cnn.serve.models import open_models
from lightning_cnn.serve.protocol import Protocol
from lightning_cnn.serve.settings import METRICS_VARIABLE, Settings
from lightning_cnn.threads import available_cores, set_num_threads
from lightning_cnn.waiting import sleep_beside_others

#: Connections that the system keeps until they are accepted.
_BACKLOG = 2048
#: Seconds in which a process must show that it is alive; on a busy machine, the import of torch takes long.
_PATIENCE = 120


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        UserError: If the address is taken, wrong or none of this machine.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except UnicodeError as error:
        raise UserError(
            f"cannot listen on {host} (a part of this name is empty or too long); choose another --host"
        ) from error
    except OSError as error:
        # The message of a `socket.gaierror` has no system error; the one of `create_server` repeats the address.
        why = reason(error) if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0).lower()
        raise UserError(f"cannot listen on {host}, port {port} ({why}); choose another --host or --port") from error
    # asyncio turns off Nagle's algorithm, which delays answers by 40 ms, only for sockets that are said to be of TCP.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, listening.detach())
    listening.set_inheritable(True)
    return listening


def serve(settings: Settings, listening: socket.socket, title: str, workers: int = 1, access_log: bool = False) -> None:
    """Answer requests until a signal comes; then answer those that were accepted, and raise it.

    Args:
        settings: Those of the server.
        listening: Where requests come from.
        title: What is printed when requests are answered.
        workers: Number of processes.
        access_log: Whether each request is written to stdout.

    Raises:
        UserError: If a model cannot be opened.
        Interrupted: When all requests are answered after a signal.
    """
    options: dict[str, Any] = {
        "http": Protocol,
        "ws": "none",
        "workers": workers,
        "log_level": "info" if access_log else "error",  # of malformed requests, clients are told
        "access_log": access_log,
        "server_header": False,
        "proxy_headers": False,  # the address of a client cannot be chosen by it
        "backlog": _BACKLOG,
        "timeout_graceful_shutdown": round(2 * settings.limits.timeout) + 1,
        "timeout_worker_healthcheck": _PATIENCE,
    }
    if workers == 1:
        server = _Server(uvicorn.Config(_app(settings), **options))
        if "torch" in sys.modules:
            import torch

            if message := set_num_threads():
                print(message, file=sys.stderr)
            sleep_beside_others(torch.get_num_threads())
        print(title, flush=True)
        server.run([listening])
        if server.received is not None:
            raise Interrupted(server.received, "; all requests are answered")
        return
    open_models(settings)  # an error is said once, and not by each process
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // workers)))
    with tempfile.TemporaryDirectory(prefix="lightning-cnn-") as folder:
        os.environ[METRICS_VARIABLE] = folder
        config = uvicorn.Config(partial(_worker_app, settings), factory=True, **options)
        supervisor = _Supervisor(config, [listening])
        print(title, flush=True)
        supervisor.run()
    if supervisor.received is None:
        raise UserError("the processes of the server could not start; the lines above say why")
    raise Interrupted(supervisor.received, "; all requests are answered")


def _app(settings: Settings) -> FastAPI:
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of damaged forms, which clients are told
    return create_app(settings)


def _worker_app(settings: Settings) -> FastAPI:
    """Return the application of one of several processes, which ends when the one that has started it does."""
    parent = parent_process()
    assert parent is not None

    def end() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end, name="parent", daemon=True).start()
    try:
        return _app(settings)
    except UserError as error:  # the files have changed since the start
        print(f"lightning-cnn: error: {error}", file=sys.stderr)
        raise SystemExit(3) from error


class _Server(uvicorn.Server):
    """A server that ends by any of our signals, and says by which one."""

    received: signal.Signals | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals within the block."""
        before = {s: signal.getsignal(s) for s in signals.SIGNALS if signal.getsignal(s) != signal.SIG_IGN}
        for signum in before:
            signal.signal(signum, self.handle_exit)
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop accepting requests; a second Ctrl-C does not wait for those that were."""
        self.received = self.received or signal.Signals(sig)
        super().handle_exit(sig, frame)


class _Supervisor(Multiprocess):
    """Several processes, which end by any of our signals; a closed terminal does not restart them."""

    received: signal.Signals | None = None

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        ignored = [s for s in signals.SIGNALS if signal.getsignal(s) == signal.SIG_IGN]
        super().__init__(config, sockets)
        for signum in signals.SIGNALS:
            signal.signal(signum, signal.SIG_IGN if signum in ignored else self._stop)

    def keep_subprocess_alive(self) -> None:
        """Replace processes that have ended or do not answer."""
        for process in self.processes:
            # Only the process itself keeps its end open, so that its death ends the wait for its answer at once.
            process.child_conn.close()
        super().keep_subprocess_alive()

    def _stop(self, signum: int, _: FrameType | None) -> None:
        self.received = self.received or signal.Signals(signum)
        self.should_exit.set()
