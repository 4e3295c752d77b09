import gzip
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_cnn.data import archive
from lightning_cnn.data.archive import DebianArchive
from lightning_cnn.data.facts import TEST_LABELS
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.files import MissingError, UnreachableError

FOLDER = "/usr/share/datasets/tiny"

# Saves the settings that it is called with, and the folder of each update, beside itself.
APT_GET = """\
here=$(dirname "$0")
case $1 in
  update) cp "$3" "$here/settings"; echo "$PWD" >> "$here/updates" ;;
  download) cp "$here/tiny.deb" "$4_1.0_all.deb" ;;
esac
"""
DPKG_DEB = """\
test "$1" = -x && mkdir -p "$3/usr/share/datasets/tiny" && cp "$2" "$3/usr/share/datasets/tiny/one.gz"
"""


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Put stand-ins for apt-get and dpkg-deb first on the PATH; return their folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    write_tool(folder, "apt-get", APT_GET)
    write_tool(folder, "dpkg-deb", DPKG_DEB)
    (folder / "tiny.deb").write_bytes(gzip.compress(b"content"))
    return folder


def write_tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}")
    (folder / name).chmod(0o755)


def test_a_file_of_the_package_is_fetched_and_decompressed(tools):
    assert DebianArchive("tiny", FOLDER).read("one") == b"content"


def test_the_package_is_fetched_once_for_all_files(tools):
    source = DebianArchive("tiny", FOLDER)

    assert source.read("one") == source.read("one") == b"content"
    with pytest.raises(MissingError):
        source.read("two")

    assert len((tools / "updates").read_text().splitlines()) == 1


def test_apt_writes_to_a_temporary_folder_that_is_removed(tools):
    DebianArchive("tiny", FOLDER).read("one")

    scratch = (tools / "updates").read_text().strip()
    settings = (tools / "settings").read_text()
    assert not Path(scratch).exists()
    assert f'Dir::State::Lists "{scratch}/lists";' in settings
    assert f'Dir::Cache "{scratch}/cache";' in settings


def test_apt_keeps_the_settings_of_the_system_but_not_its_hooks(tools, tmp_path, monkeypatch):
    DebianArchive("tiny", FOLDER).read("one")
    if (apt_config := shutil.which("apt-config")) is None:
        pytest.skip("there is no apt-config on this system")
    (tmp_path / "system.conf").write_text('APT::Update::Post-Invoke:: "touch /hook";\nAPT::Architecture "mine";\n')
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "system.conf"))

    def dump(*options):
        return subprocess.run([apt_config, "dump", *options], capture_output=True, text=True, check=True).stdout

    assert "touch /hook" in dump()
    private = dump("-c", tools / "settings")
    assert "touch /hook" not in private and "Invoke" not in "".join(re.findall("APT::Update.*", private))
    assert 'APT::Architecture "mine";' in private


def test_the_first_error_of_apt_is_the_reason(tools):
    write_tool(tools, "apt-get", 'test $1 = update && echo "W: Temporary failure resolving" >&2\necho "E: too" >&2')

    with pytest.raises(UnreachableError, match=r"^W: Temporary failure resolving$"):
        DebianArchive("tiny", FOLDER).read("one")


def test_a_failed_update_is_ignored_if_the_package_is_downloaded(tools):
    write_tool(tools, "apt-get", APT_GET + 'test $1 = update && echo "E: some other repository" >&2 && exit 100')

    assert DebianArchive("tiny", FOLDER).read("one") == b"content"


def test_a_package_that_cannot_be_unpacked_is_refused(tools):
    write_tool(tools, "dpkg-deb", 'echo "dpkg-deb: error: not an archive" >&2; exit 2')

    with pytest.raises(UnreachableError, match="not an archive"):
        DebianArchive("tiny", FOLDER).read("one")


def test_a_time_out_kills_apt_with_its_children(tools, monkeypatch):
    write_tool(tools, "apt-get", f'sleep 300 &\necho $! > "{tools}/new"\nmv "{tools}/new" "{tools}/child"\nwait')

    def time_out(process: subprocess.Popen, timeout: float) -> None:
        wait_until((tools / "child").exists)  # on a slow machine too, the child has started
        assert is_running((tools / "child").read_text().strip())
        raise subprocess.TimeoutExpired(process.args, timeout)

    monkeypatch.setattr(subprocess.Popen, "communicate", time_out)

    with pytest.raises(UnreachableError, match=r"`apt-get update` timed out after 180 s"):
        DebianArchive("tiny", FOLDER).read("one")

    wait_until(lambda: not is_running((tools / "child").read_text().strip()))  # SIGKILL takes a moment


def test_an_interrupt_just_after_apt_has_ended_is_raised(tools, monkeypatch):
    def interrupted(process: subprocess.Popen, timeout: float) -> None:
        process.wait()
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)

    with pytest.raises(KeyboardInterrupt):
        DebianArchive("tiny", FOLDER).read("one")


def test_every_step_has_a_time_out(tools, monkeypatch):
    monkeypatch.setattr(archive, "STEP_LIMIT", 0.0)

    with pytest.raises(UnreachableError, match=r"`apt-get update` timed out after 0 s"):
        DebianArchive("tiny", FOLDER).read("one")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: str) -> bool:
    status = Path("/proc", pid, "stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter if it ends between opening and reading
        return False


def test_a_system_without_apt_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(UnreachableError, match="there is no apt-get on this system"):
        DebianArchive("tiny", FOLDER).read("one")


def test_the_real_package_has_the_real_file():
    if shutil.which("apt-get") is None:
        pytest.skip("there is no apt-get on this system")
    source = DebianArchive(FASHION_MNIST.debian_package, FASHION_MNIST.system_folder)
    try:
        content = source.read(TEST_LABELS)
    except UnreachableError as error:
        pytest.skip(f"the archive cannot be reached: {error}")

    assert hashlib.sha256(content).hexdigest() == FASHION_MNIST.sha256[TEST_LABELS]
