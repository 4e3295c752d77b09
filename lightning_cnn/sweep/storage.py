"""The storage that the workers of a sweep share: an SQLite file on one machine, a PostgreSQL database on many."""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy
from filelock import FileLock
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from lightning_cnn.errors import UserError, install_extra
from lightning_cnn.text import in_one_line

#: Seconds between two heartbeats of a trial, and until a trial without them is retried: a machine that swaps, or a slow
#: server, may miss five.
HEARTBEAT = 5
GRACE = 30
#: Seconds to wait for another worker's write to an SQLite file, which takes milliseconds.
_SQLITE_TIMEOUT = 60
#: Seconds for which a worker tries to reach a server again.
PATIENCE = 180
#: Seconds to wait for the answer of a server.
_CONNECT_TIMEOUT = 10
#: Of libpq: a connection that is cut off is noticed within half a minute, not two hours.
_SERVER_TIMEOUTS = {"connect_timeout": _CONNECT_TIMEOUT, "keepalives_idle": 10, "keepalives_interval": 5} | {
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
#: The key of the sweep's advisory lock in a PostgreSQL database; any number will do.
_LOCK_KEY = 5_706_291_483
#: SQLAlchemy's code for a transaction that began before the connection was lost.
_TRANSACTION_LOST = "8s2b"
_ERRORS = (SQLAlchemyError, StorageInternalError, sqlite3.Error)


class StorageError(UserError):
    """The storage cannot be reached, or fails; the command itself was right."""

    exit_status = 1


class ConnectionLostError(StorageError):
    """The connection to a server was lost in the middle of a transaction."""


class _Database(RDBStorage):
    """Optuna's storage, with heartbeats that survive an outage: its thread would end at the first that fails."""

    def record_heartbeat(self, trial_id: int) -> None:
        """Record a heartbeat, if that is possible now."""
        with suppress(*_ERRORS):
            super().record_heartbeat(trial_id)


class Storage:
    """A database that workers share.

    Args:
        url: Its address: `sqlite:///FILE` or `postgresql://…`.

    Attributes:
        patience: Seconds for which a connection to a server is tried again; none until the first has succeeded.

    Raises:
        UserError: If it is another address.
    """

    patience = 0.0

    def __init__(self, url: str) -> None:
        self._url = _parse(url)
        self._is_file = self._url.drivername == "sqlite"
        timeouts = {"timeout": _SQLITE_TIMEOUT} if self._is_file else _SERVER_TIMEOUTS
        # pool_pre_ping: reconnects after a restart of the server
        self._options = {"connect_args": timeouts, "pool_pre_ping": not self._is_file}

    def __str__(self) -> str:
        return self._url.set(drivername=self._url.get_backend_name()).render_as_string(hide_password=True)

    def open(self) -> RDBStorage:
        """Connect, and create the tables if there are none. Requires the lock.

        Raises:
            StorageError: If it has tables of another version of Optuna.
        """
        if self._is_file:
            with closing(sqlite3.connect(str(self._url.database))) as connection:
                connection.execute("PRAGMA journal_mode=WAL")  # readers do not wait for writers
        url = self._url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")  # Optuna formats it
        try:
            database = _Database(
                url,
                self._options,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
        except RuntimeError as error:
            raise StorageError(f"{self}: {in_one_line(error)}") from error
        if not self._is_file:
            sqlalchemy.event.listen(database.engine, "do_connect", self._connect)
            self.patience = PATIENCE
        return database

    def _connect(self, dialect: Any, _: object, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """Connect to a server; if it is away, try again with a growing delay while there is `patience`."""
        start, delay = time.monotonic(), 0.5
        while True:
            try:
                connection = dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError as error:
                is_heartbeat = threading.current_thread() is not threading.main_thread()  # comes again by itself
                if is_heartbeat or time.monotonic() - start >= self.patience:
                    raise
                if delay == 0.5:  # once
                    reason = in_one_line(error).rstrip(".")
                    print(f"Storage {self} is away, tried again for {self.patience:.0f} s: {reason}", flush=True)
                time.sleep(delay)
                delay = min(2 * delay, HEARTBEAT)
            else:
                if time.monotonic() - start > GRACE - 2 * HEARTBEAT:  # let all workers record a heartbeat first
                    time.sleep(_CONNECT_TIMEOUT + HEARTBEAT)
                return connection

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other workers from claiming a trial; the lock of a killed process is released by the system."""
        if self._is_file:
            with FileLock(f"{self._url.database}.lock"):
                yield
            return
        options = {"poolclass": sqlalchemy.NullPool, "connect_args": self._options["connect_args"]}
        engine = sqlalchemy.create_engine(self._url, **options)
        sqlalchemy.event.listen(engine, "do_connect", self._connect)
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})"))
            yield

    @contextmanager
    def failing_clearly(self) -> Iterator[None]:
        """Turn errors of the storage within the block into one line.

        Raises:
            StorageError: In place of the errors of the database and of Optuna.
        """
        try:
            yield
        except _ERRORS as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            reason = in_one_line(getattr(cause, "orig", None) or cause).rstrip(".")
            is_lost = getattr(cause, "connection_invalidated", False) or getattr(cause, "code", "") == _TRANSACTION_LOST
            kind = ConnectionLostError if is_lost else StorageError
            raise kind(f"storage {self}: {reason}; the same command resumes once it works again") from error


def _parse(text: str) -> sqlalchemy.URL:
    advice = "give sqlite:///FILE, or postgresql://USER@HOST/DATABASE"
    try:
        url = sqlalchemy.make_url(text)
    except (ArgumentError, ValueError) as error:  # ValueError: the port is not a number
        raise UserError(f"--storage is not the address of a storage; {advice}") from error  # it may hold a password
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise UserError(f"--storage: {url.drivername!r} is not supported; {advice}")
    if url.drivername == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise UserError(f"--storage {text} stores nothing; {advice}")
        folder = Path(str(url.database)).parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise UserError(f"--storage {text}: {folder} is not a writable folder; give another")
        return url
    try:
        url.get_dialect().import_dbapi()
    except ImportError as error:
        raise UserError(f"--storage needs psycopg ({error}); {install_extra('sweep')}") from error
    return url
