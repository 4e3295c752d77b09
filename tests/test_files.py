import os
import stat
from pathlib import Path

import pytest

from lightning_cnn.files import replacing, shipped_config


def write_half(path: Path, error: type[BaseException]) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise error("the disk is full")


def test_the_file_takes_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "result.csv"

    with replacing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")

    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"result.csv": "whole"}


def test_an_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "result.csv"
    path.write_text("old")

    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"

    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_nothing(tmp_path, error):
    with pytest.raises(error, match="full"):
        write_half(tmp_path / "result.csv", error)

    assert list(tmp_path.iterdir()) == []


def test_an_error_keeps_the_old_file(tmp_path):
    path = tmp_path / "result.csv"
    path.write_text("old")

    with pytest.raises(ValueError, match="full"):
        write_half(path, ValueError)

    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"result.csv": "old"}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_is_that_of_any_new_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "result.csv") as temporary:
            temporary.write_text("whole")
    finally:
        after = os.umask(before)

    assert stat.S_IMODE((tmp_path / "result.csv").stat().st_mode) == mode
    assert after == umask


def test_several_at_once_do_not_meet(tmp_path):
    path = tmp_path / "result.csv"

    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")

    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"result.csv": "first"}  # left last


def test_configs_are_where_they_are_said_to_be(configs):
    assert shipped_config("default.yaml") == configs / "default.yaml"
