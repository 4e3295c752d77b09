"""A temporary PostgreSQL server on this machine."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

USER = "tester"
#: With all characters that have a meaning in an address or a format string.
PASSWORD = "s3cret: {50 %} @home/#1?"
#: Seconds for the server to start, or to end.
_PATIENCE = 60
#: No data has to survive a crash, and there are few connections.
_OPTIONS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "shared_buffers": "16MB"}


@dataclass
class Server:
    """A server on a port of this machine, in a folder that has its data."""

    port: int
    folder: Path = Path()
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        options = [f"--{option}={value}" for option, value in _OPTIONS.items()]
        arguments = ["-D", self.folder / "data", "-p", str(self.port), *options]
        self.process = _start(["setpriv", "--pdeathsig", "INT", _programs() / "postgres", *arguments], self.folder)
        _await(self.process, self, self.folder / _LOG)

    def stop(self) -> None:
        """Stop it without waiting for clients."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(_PATIENCE)

    def url(self, database: str = "postgres", password: str = PASSWORD) -> str:
        """Return the address of a database."""
        return f"postgresql://{USER}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Make an empty database and return its address."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)


@contextmanager
def server() -> Iterator[Server]:
    """Start a server on a free port of 127.0.0.1; it ends with the block, or with this process if that is killed.

    Skips the test where PostgreSQL is not installed.
    """
    programs = _programs()
    # Not in pytest's folder, which is private: as root, the server runs as another user.
    with tempfile.TemporaryDirectory(prefix="postgresql-") as name:
        folder = Path(name)
        _initialize(programs / "initdb", folder, folder / "data")
        running = Server(free_port(), folder)
        try:
            running.start()
            yield running
        finally:
            running.stop()


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


_LOG = "log.txt"


def _programs() -> Path:
    """The folder of the programs: Debian has one for each version, none of them on the path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    found = shutil.which("initdb", path=os.pathsep.join([*map(str, reversed(folders)), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip("PostgreSQL is not installed: install Debian's package postgresql")
    return Path(found).resolve().parent


def _initialize(initdb: Path, folder: Path, data: Path) -> None:
    """Create the data folder of a server with one user and password authentication."""
    password = folder / "password"
    password.write_text(PASSWORD)
    if (owner := _owner()) is not None:
        for path in (folder, password):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    arguments = [f"--username={USER}", f"--pwfile={password}", "--auth=scram-sha-256", "--no-sync", "--encoding=UTF8"]
    if _start([initdb, "-D", data, "--locale=C", *arguments], folder).wait(_PATIENCE):
        raise RuntimeError((folder / _LOG).read_text())


def _start(arguments: list[Any], folder: Path) -> "subprocess.Popen[bytes]":
    """Start a program in a folder; as root, which PostgreSQL refuses, as another user."""
    owner = _owner()
    identity = {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    with (folder / _LOG).open("ab") as log:
        return subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, **identity)


def _owner() -> pwd.struct_passwd | None:
    """The user of the server; None for the user of this process."""
    if os.geteuid() != 0:
        return None
    names = {user.pw_name: user for user in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


def _await(running: "subprocess.Popen[bytes]", started: Server, log: Path) -> None:
    """Wait until the server accepts connections."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            psycopg.connect(started.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            if running.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text()) from None
            time.sleep(0.05)
        else:
            return
