import json
import os
import sys
from pathlib import Path
from resource import getpagesize
from typing import Any

import forks
import pytest
from checkout import PYTHONPATH

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="needs /proc/self/smaps")


@pytest.fixture(scope="module")
def temporary(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def found(temporary, tmp_path_factory) -> list[dict[str, Any]]:
    """The measurements of two processes that share the images which rank 0 has loaded."""
    init_file = tmp_path_factory.mktemp("group") / "init"
    # This fixture of the module runs before the one that sets PYTHONPATH for each test.
    environment = os.environ | {"PYTHONPATH": PYTHONPATH, "TMPDIR": str(temporary)}
    environment |= {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    processes = [
        forks.Popen([sys.executable, "-m", "data.sharer", str(rank), init_file], env=environment, stdout=-1, text=True)
        for rank in range(2)
    ]
    try:
        return [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()


def test_all_processes_have_the_images_and_targets(found):
    assert [process["same"] for process in found] == [[True, True], [True, True]]


def test_the_images_are_in_memory_once(found):
    first, second = (process["read"] for process in found)

    assert first["file"] == second["file"]  # device and inode
    assert first["Rss"] == second["Rss"] >= 5_000 * 784 / 1024
    assert first["Pss"] == second["Pss"] == pytest.approx(first["Rss"] / 2, abs=8)  # half for each process
    assert first["Anonymous"] == second["Anonymous"] == 0  # no page is a copy


def test_writes_are_private(found):
    first, second = (process["written"] for process in found)

    assert first["first"] != [7] and first["Anonymous"] == 0
    assert second["first"] == [7] and second["Anonymous"] == getpagesize() // 1024  # the page that it has written


def test_no_file_is_left(found, temporary):
    assert found[0]["read"]["path"].endswith("images0.npy (deleted)")
    assert list(temporary.iterdir()) == []


def test_nodes_have_the_images_of_their_own_process(found):
    assert [process["own node"] for process in found] == [[True, False], [False, True]]
