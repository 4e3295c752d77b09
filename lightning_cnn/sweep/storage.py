"""Where a sweep keeps what its workers share: an SQLite file for those of one machine, PostgreSQL for those of many."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy
from filelock import FileLock
from optuna import Study
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from lightning_cnn.errors import UserError

#: Seconds between two signs of life of a worker, and without one until others take it for dead. A beat is one small
#: write. Six may fail to come, on a machine that swaps or with a slow server, before a living worker loses its trial;
#: and nobody sits before a sweep for half a minute.
HEARTBEAT = 5
GRACE = 30
#: Seconds that a worker waits for another's write to an SQLite file, which takes milliseconds.
_SQLITE_PATIENCE = 60
#: Seconds until a server that does not answer is given up.
_CONNECT_PATIENCE = 10
#: The lock, among all advisory locks of a PostgreSQL database, that workers take; the number stands for nothing.
_LOCK = 5_706_291_483


class StorageError(UserError):
    """The storage cannot be reached, or fails; the command itself was sound."""

    exit_status = 1


def retry(study: Study, trial: FrozenTrial) -> None:
    """Enqueue a trial whose worker has left it, with the same settings."""
    RetryHeartbeatStaleTrialCallback()(study, trial)


class Storage:
    """A place that workers share.

    Args:
        url: Its address: `sqlite:///FILE` or `postgresql://…`.

    Raises:
        UserError: If it is no such address.
    """

    def __init__(self, url: str) -> None:
        self._url = _parse(url)
        self._is_file = self._url.drivername == "sqlite"
        patience = {"timeout": _SQLITE_PATIENCE} if self._is_file else {"connect_timeout": _CONNECT_PATIENCE}
        # pool_pre_ping: that a server was started anew is no reason to fail
        self._options = {"connect_args": patience, "pool_pre_ping": not self._is_file}

    def __str__(self) -> str:
        return self._url.set(drivername=self._url.get_backend_name()).render_as_string(hide_password=True)

    def open(self) -> RDBStorage:
        """Connect, and make the tables if there are none; for whoever holds the lock.

        Raises:
            StorageError: If it has tables of another version of Optuna.
        """
        if self._is_file:
            with closing(sqlite3.connect(str(self._url.database))) as connection:
                connection.execute("PRAGMA journal_mode=WAL")  # whoever reads does not wait for whoever writes
        url = self._url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")  # Optuna formats it
        try:
            return RDBStorage(
                url,
                self._options,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=retry,
            )
        except RuntimeError as error:
            raise StorageError(f"{self}: {' '.join(str(error).split())}") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all other workers from choosing a trial; a process that is killed lets go as well."""
        if self._is_file:
            with FileLock(f"{self._url.database}.lock"):
                yield
            return
        engine = sqlalchemy.create_engine(
            self._url, poolclass=sqlalchemy.NullPool, connect_args=self._options["connect_args"]
        )
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            yield

    @contextmanager
    def failing_clearly(self) -> Iterator[None]:
        """Tell in one line if the storage fails within the block.

        Raises:
            StorageError: In place of what the database and Optuna raise.
        """
        try:
            yield
        except (SQLAlchemyError, StorageInternalError, sqlite3.Error) as error:
            raise StorageError(
                f"storage {self}: {_reason(error)}; once that is mended, the same command goes on"
            ) from error


def _parse(text: str) -> sqlalchemy.URL:
    advice = "give sqlite:///FILE, or postgresql://USER@HOST/DATABASE"
    try:
        url = sqlalchemy.make_url(text)
    except (ArgumentError, ValueError) as error:  # ValueError: of a port that is no number
        raise UserError(f"--storage is not the address of a storage; {advice}") from error  # it may hold a password
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise UserError(f"--storage: {url.drivername!r} is no storage for a sweep; {advice}")
    if url.drivername == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise UserError(f"--storage {text} keeps nothing; {advice}")
        folder = Path(str(url.database)).parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise UserError(f"--storage {text}: {folder} is no folder that can be written to; name another")
        return url
    try:
        url.get_dialect().import_dbapi()
    except ImportError as error:
        raise UserError(f"--storage needs psycopg ({error}); pip install 'lightning-cnn[sweep]'") from error
    return url


def _reason(error: BaseException) -> str:
    """What a database says, in one line."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    return " ".join(str(getattr(cause, "orig", None) or cause).split()).rstrip(".")
