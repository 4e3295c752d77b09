import socket
import sqlite3
import sys

import pytest

from lightning_cnn.errors import UserError
from lightning_cnn.sweep.storage import Storage, StorageError


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense:secret", "--storage is not the address of a storage; give sqlite:///FILE, or postgresql://"),
        ("postgresql://me:secret@host:port/db", "--storage is not the address of a storage"),
        ("mysql://me:secret@host/db", "--storage: 'mysql' is not supported"),
        ("sqlite://", "--storage sqlite:// stores nothing"),
        ("sqlite:///:memory:", "--storage sqlite:///:memory: stores nothing"),
        ("sqlite:////nowhere/study.db", "/nowhere is not a writable folder; give another"),
    ],
)
def test_a_wrong_address_is_refused_in_one_line(url, reason):
    with pytest.raises(UserError) as refused:
        Storage(url)

    assert reason in str(refused.value)
    assert "secret" not in str(refused.value) and "\n" not in str(refused.value)
    assert refused.value.exit_status == 2


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_addresses_of_postgresql_use_psycopg_3(scheme):
    assert str(Storage(f"{scheme}://me:secret@host/db")) == "postgresql://me:***@host/db"


def test_a_driver_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(UserError, match=r"needs psycopg .*; run scripts/bootstrap"):
        Storage("postgresql://me:secret@host/db")


def test_a_missing_server_is_exit_status_1():
    with socket.socket() as taken:  # no server listens
        taken.bind(("127.0.0.1", 0))
        storage = Storage(f"postgresql://me:secret@127.0.0.1:{taken.getsockname()[1]}/db")
        with pytest.raises(StorageError) as failed, storage.failing_clearly(), storage.locked():
            pass

    assert "Connection refused" in str(failed.value) and failed.value.exit_status == 1
    assert "secret" not in str(failed.value) and "\n" not in str(failed.value)


def test_a_file_that_is_no_database_is_not_changed(tmp_path):
    (tmp_path / "study.db").write_text("important" * 100)
    storage = Storage(f"sqlite:///{tmp_path}/study.db")

    with pytest.raises(StorageError, match=r"study\.db: file is not a database"), storage.failing_clearly():
        storage.open()
    assert (tmp_path / "study.db").read_text() == "important" * 100


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_tables_of_another_version_are_refused(tmp_path):
    storage = Storage(f"sqlite:///{tmp_path}/study.db")
    storage.open().engine.dispose()
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v2.6.0.a'")
    connection.close()

    with pytest.raises(StorageError, match=r"no longer compatible with the table schema"):
        storage.open()


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_readers_do_not_wait_for_writers(tmp_path):
    storage = Storage(f"sqlite:///{tmp_path}/{{study}}.db")
    with storage.open().engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_one_worker_at_a_time_has_the_lock(tmp_path):
    from filelock import FileLock, Timeout

    storage = Storage(f"sqlite:///{tmp_path}/study.db")
    with storage.locked(), pytest.raises(Timeout):
        FileLock(tmp_path / "study.db.lock").acquire(timeout=0)
    with storage.locked():
        pass
