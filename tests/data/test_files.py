import errno
import gzip
import os
import subprocess
import sys
import threading

import pytest

from lightning_cnn.data import files
from lightning_cnn.data.files import GzipFiles, MissingError, RawFiles, SourceError, gunzip, locked
from lightning_cnn.errors import DataError, reason


def test_raw_and_gzipped_files_are_read(tmp_path):
    (tmp_path / "one").write_bytes(b"raw")
    (tmp_path / "two.gz").write_bytes(gzip.compress(b"packed"))

    assert RawFiles(tmp_path).read("one") == b"raw"
    assert GzipFiles(tmp_path).read("two") == b"packed"
    assert GzipFiles(tmp_path).where("two") == str(tmp_path / "two.gz")


@pytest.mark.parametrize("name", ["train-images.idx3-ubyte", "train-images-idx3-ubyte/train-images-idx3-ubyte"])
def test_files_are_found_by_the_names_that_kaggle_gives_them(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"raw")
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(b"packed"))

    assert RawFiles(tmp_path).read("train-images-idx3-ubyte") == b"raw"
    assert GzipFiles(tmp_path).read("train-images-idx3-ubyte") == b"packed"
    assert RawFiles(tmp_path).where("train-images-idx3-ubyte") == str(tmp_path / name)


@pytest.mark.parametrize("source", [RawFiles, GzipFiles])
def test_a_missing_file_raises_missing_error(tmp_path, source):
    (tmp_path / "file").touch()

    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "file" / "below"):
        with pytest.raises(MissingError):
            source(folder).read("one")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_folder_pipe_or_device_is_rejected_without_blocking(tmp_path, make):
    make(tmp_path / "one")

    with pytest.raises(SourceError, match=r"^not a regular file$") as caught:
        RawFiles(tmp_path).read("one")
    assert not isinstance(caught.value, MissingError)


def test_a_circular_link_is_rejected(tmp_path):
    (tmp_path / "one.gz").symlink_to("one.gz")

    with pytest.raises(SourceError, match="too many levels of symbolic links"):
        GzipFiles(tmp_path).read("one")


def test_truncated_or_altered_gzip_files_are_rejected():
    packed = gzip.compress(b"some bytes" * 100, mtime=0)
    altered_checksum = packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:]

    for content in (b"not gzip at all", packed[:-1], packed[: len(packed) // 2], altered_checksum):
        with pytest.raises(SourceError, match="not a valid gzip file"):
            gunzip(content)


def test_a_gzip_bomb_is_rejected_at_the_limit(monkeypatch):
    compressed = gzip.compress(bytes(10 * 2**20))
    assert len(compressed) < 2**14
    monkeypatch.setattr(files, "MAX_BYTES", 2**20)

    with pytest.raises(SourceError, match="larger than the limit of 1,048,576 bytes"):
        gunzip(compressed)


def test_a_file_beyond_the_limit_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 100)
    (tmp_path / "one").write_bytes(bytes(100))
    assert RawFiles(tmp_path).read("one") == bytes(100)
    (tmp_path / "one").write_bytes(bytes(101))

    with pytest.raises(SourceError, match="larger than the limit of 100 bytes"):
        RawFiles(tmp_path).read("one")


def test_an_error_while_writing_names_the_folder(tmp_path):
    with pytest.raises(DataError, match=r"no space left on device.*--data\.data_dir") as caught, locked(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert str(tmp_path) in str(caught.value)


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def acquire(lock: object, timeout: float) -> None:
        raise NotImplementedError("no locks here")

    monkeypatch.setattr(files.FileLock, "acquire", acquire)

    with pytest.raises(DataError, match=r"cannot be written to \(no locks here\)"), locked(tmp_path):
        pytest.fail("there is no lock")


def test_locking_creates_the_folder_and_removes_partial_files(tmp_path):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / ".one.123.part").write_bytes(b"half a fi")
    (folder / "two").write_bytes(b"kept")

    with locked(folder):
        assert not (folder / ".one.123.part").exists()
        assert (folder / "two").read_bytes() == b"kept"
    with locked(tmp_path / "new"):
        assert (tmp_path / "new").is_dir()


def test_a_new_folder_that_another_process_uses_by_now_is_left(tmp_path):
    with locked(tmp_path / "data" / "MNIST"):
        (tmp_path / "data" / "other").touch()

    assert [path.name for path in (tmp_path / "data").iterdir()] == ["other"]


def test_the_lock_is_released_after_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="inside"), locked(tmp_path):
        raise RuntimeError("inside")

    with locked(tmp_path):
        pass


def test_waiting_for_a_lock_times_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "LOCK_TIMEOUT", 0.1)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(tmp_path):
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        with pytest.raises(DataError, match="still locked by another process"), locked(tmp_path):
            pytest.fail("two holders of one lock")
    finally:
        done.set()
        thread.join()
    assert f"waiting for another process that is downloading into {tmp_path}" in capsys.readouterr().err


def test_a_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "raw"

    with pytest.raises(DataError, match=r"cannot be written to.*LIGHTNING_CNN_DATA_DIR") as caught, locked(folder):
        pytest.fail("there is nothing to lock")
    assert str(folder) in str(caught.value)


def test_a_read_only_folder_cannot_be_locked(tmp_path):
    tmp_path.chmod(0o555)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user, probably root, may write into a read-only folder")

    with pytest.raises(DataError, match="permission denied"), locked(tmp_path):
        pytest.fail("nothing can be written here")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "connection refused"),
        (EOFError("Compressed file ended"), "compressed file ended"),
        (OSError("CRC check failed"), "CRC check failed"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_reasons_are_short(error, expected):
    assert reason(error) == expected


def test_the_data_command_does_not_import_torch_or_tqdm():
    script = (
        "import sys, lightning_cnn.commands.data; print(sys.modules.keys() & {'torch', 'lightning', 'rich', 'tqdm'})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
