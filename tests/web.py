"""A local web server with faults for tests of downloads."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """The address of a running server, and the requested paths."""

    address: str
    requests: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)


Behaviour = Callable[[BaseHTTPRequestHandler, Server], None]


@contextmanager
def serve(behaviours: Mapping[str, bytes | Behaviour] | Behaviour) -> Iterator[Server]:
    """Serve bytes or a behaviour for each path (or one behaviour for all), and 404 for every other path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests.append(self.path)
            behaviour = behaviours if callable(behaviours) else behaviours.get(self.path, not_found)
            # Some tests are about clients that close the connection.
            with suppress(BrokenPipeError, ConnectionResetError):
                (send(behaviour) if isinstance(behaviour, bytes) else behaviour)(self, server)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name in the base class
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = False  # joined at the end, so that nothing outlives its test
    server = Server(f"http://127.0.0.1:{http.server_port}/")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.done.set()
        http.shutdown()
        http.server_close()
        thread.join()


def send(content: bytes, announced: int | None = None) -> Behaviour:
    """Send the content with its length, or another one, in the header, and close the connection."""

    def behave(handler: BaseHTTPRequestHandler, server: Server) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content) if announced is None else announced))
        handler.end_headers()
        handler.wfile.write(content)

    return behave


def send_without_end(handler: BaseHTTPRequestHandler, server: Server) -> None:
    """Send bytes until the client closes the connection."""
    handler.send_response(200)
    handler.end_headers()
    while not server.done.is_set():
        handler.wfile.write(bytes(2**20))


def stall(handler: BaseHTTPRequestHandler, server: Server) -> None:
    """Accept the request and send nothing."""
    server.done.wait()


def stall_midway(handler: BaseHTTPRequestHandler, server: Server) -> None:
    """Send the header and the beginning of a file, and then nothing."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(bytes(100))
    server.done.wait()


def redirect(handler: BaseHTTPRequestHandler, server: Server) -> None:
    """Lead back to the same address."""
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def not_found(handler: BaseHTTPRequestHandler, server: Server) -> None:
    """Answer 404."""
    handler.send_error(404)
