import os
from collections.abc import Iterator
from unittest import mock

import pytest
import torch

from benchmarks.one_image import RUNTIMES, one_image_table, times


@pytest.fixture
def _as_in_a_process_of_its_own() -> Iterator[None]:
    threads = torch.get_num_threads()
    with mock.patch.dict(os.environ):
        yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_as_in_a_process_of_its_own", "quick_exports")
def test_all_runtimes_are_timed():
    found = times("MLP", images=3)

    assert found["threads"] >= 1
    assert all(0 < found[name] < 1 for name in RUNTIMES)


def test_the_table_has_the_ratio_within_each_repeat():
    runs = [
        {"system": "CNN", "repeat": number, "eager": eager, "exported": eager, "onnx": 50e-6, "threads": 2}
        for number, eager in enumerate((200e-6, 100e-6, 125e-6))
    ]

    (row,) = one_image_table(runs).rows

    assert row == ["CNN", "2", "125 (100–200)", "125 (100–200)", "50 (50–50)", "0.40 (0.25–0.50)"]
