import ctypes
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch  # noqa: F401  # loads GNU OpenMP

from lightning_cnn import waiting
from lightning_cnn.waiting import sleep_beside_others

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "GOMP_parallel"), reason="torch has another OpenMP"
)


@pytest.fixture
def machine(monkeypatch):
    """A machine of four cores; `free` is the number of those that other processes leave free."""
    machine = SimpleNamespace(free=4.0)
    monkeypatch.setattr(waiting, "_INTERVAL", 0.001)
    monkeypatch.setattr(waiting, "own_cores", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(waiting, "CoreUsage", lambda: SimpleNamespace(free_cores=lambda: machine.free))
    yield machine
    sleep_beside_others(threads=1)


def names() -> list[str]:
    """The names of this module's threads."""
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("lightning-cnn"))


def becomes(expected: list[str]) -> bool:
    """Whether this module's threads become these within some seconds."""
    until = time.monotonic() + 20
    while names() != expected and time.monotonic() < until:
        time.sleep(0.001)
    return names() == expected


def test_a_team_sleeps_while_other_processes_need_the_cores(machine):
    sleep_beside_others(threads=3)
    assert becomes(["lightning-cnn core usage"])

    machine.free = 2.4
    assert becomes(["lightning-cnn core usage", "lightning-cnn sleeping team"])

    machine.free = 2.6
    assert becomes(["lightning-cnn core usage"])


def test_there_are_more_threads_than_cores_just_then(machine, monkeypatch):
    sizes = []
    team = waiting._SleepingTeam
    monkeypatch.setattr(waiting, "_SleepingTeam", lambda size: (sizes.append(size), team(size))[1])
    machine.free = 0.0

    sleep_beside_others(threads=3)

    assert becomes(["lightning-cnn core usage", "lightning-cnn sleeping team"])
    assert 3 + sizes[0] - 1 == 4 + 1  # the thread that starts the team is no new one


@pytest.mark.parametrize("free", [0.0, 4.0])
def test_one_thread_ends_it(free, machine):
    machine.free = free
    sleep_beside_others(threads=3)

    sleep_beside_others(threads=1)

    assert names() == []


def test_another_number_of_threads_begins_anew(machine):
    machine.free = 2.0
    sleep_beside_others(threads=3)
    assert becomes(["lightning-cnn core usage", "lightning-cnn sleeping team"])

    sleep_beside_others(threads=2)

    assert becomes(["lightning-cnn core usage"])


def test_without_gnu_openmp_nothing_is_started(machine, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())

    sleep_beside_others(threads=3)

    assert names() == []
