import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_cnn.errors import UserError
from lightning_cnn.files import (
    atomic_write,
    cache_dir,
    link_or_copy,
    local_path,
    remove_partial_files,
    sha256,
    shipped_config,
    shipped_configs,
)


def write_half(path: Path, error: type[BaseException]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error("the disk is full")


def test_the_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "result.csv"

    with atomic_write(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")

    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"result.csv": "whole"}


def test_an_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "result.csv"
    path.write_text("old")

    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"

    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_removes_the_temporary_file(tmp_path, error):
    with pytest.raises(error, match="full"):
        write_half(tmp_path / "result.csv", error)

    assert list(tmp_path.iterdir()) == []


def test_an_error_keeps_the_old_file(tmp_path):
    path = tmp_path / "result.csv"
    path.write_text("old")

    with pytest.raises(ValueError, match="full"):
        write_half(path, ValueError)

    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"result.csv": "old"}


KILLED = """\
import os, sys
from pathlib import Path
from lightning_cnn.files import atomic_write
with atomic_write(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os._exit(9)
"""


def test_partial_files_of_killed_processes_are_removed_and_no_others(tmp_path):
    (tmp_path / "plots").mkdir()
    for name in ("config.yaml", "plots/history.png"):
        assert subprocess.run([sys.executable, "-c", KILLED, tmp_path / name], check=False).returncode == 9
    assert len(list(tmp_path.rglob("*.part"))) == 2

    with atomic_write(tmp_path / "test_metrics.json") as temporary:
        temporary.write_text("half")
        remove_partial_files(tmp_path)
        assert list(tmp_path.rglob("*.part")) == [temporary]
        temporary.write_text("whole")

    link_or_copy(tmp_path / "test_metrics.json", tmp_path / "copy.json")
    remove_partial_files(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.json", "plots", "test_metrics.json"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_follows_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "result.csv") as temporary:
            temporary.write_text("whole")
    finally:
        after = os.umask(before)

    assert stat.S_IMODE((tmp_path / "result.csv").stat().st_mode) == mode
    assert after == umask


def test_concurrent_writes_do_not_interfere(tmp_path):
    path = tmp_path / "result.csv"

    with atomic_write(path) as first, atomic_write(path) as second:
        first.write_text("first")
        second.write_text("second")

    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"result.csv": "first"}  # left last


def test_the_target_of_a_link_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to("real/new.txt")

    with atomic_write(link) as path:
        path.write_text("whole")

    assert link.is_symlink()
    assert (tmp_path / "real" / "new.txt").read_text() == "whole"


def test_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")

    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_shipped_configs_are_found(configs):
    assert shipped_config("default.yaml") == configs / "default.yaml"


def test_shipped_configs_have_the_names_of_their_files(configs):
    assert shipped_configs()["mnist/cnn"] == configs / "mnist" / "cnn.yaml"
    assert [*shipped_configs()] == [
        *("cifar10_folder", "fashion_mnist/fast", "fashion_mnist/mlp", "fashion_mnist/shallow_cnn"),
        *(
            "fashion_mnist/simple_cnn",
            "fashion_mnist/small",
            "fashion_mnist/tiny",
            "folder",
            "mnist/cnn",
            "mnist/deep_cnn",
            "mnist/fast",
            "mnist/small",
        ),
        "mnist/tiny",
    ]


def test_a_leading_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))

    assert local_path("~/runs", "--output") == tmp_path / "runs"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s3://bucket/runs", "--output s3://bucket/runs is an address; name a file or folder on this machine"),
        ("~nobody-here/runs", "--output ~nobody-here/runs: there is no home folder ~nobody-here; give"),
    ],
)
def test_what_is_not_on_this_machine_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        local_path(text, "--output")


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which is to be ignored
    assert cache_dir() == tmp_path / ".cache" / "lightning_cnn"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/xdg/lightning_cnn")
    monkeypatch.setenv("LIGHTNING_CNN_CACHE_DIR", "~/mine")
    assert cache_dir() == tmp_path / "mine"
    monkeypatch.setenv("LIGHTNING_CNN_CACHE_DIR", "here")
    assert cache_dir() == Path("here").absolute()
    monkeypatch.setenv("LIGHTNING_CNN_CACHE_DIR", "s3://bucket")
    with pytest.raises(UserError, match="LIGHTNING_CNN_CACHE_DIR s3://bucket is an address"):
        cache_dir()
