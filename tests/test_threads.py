import os
import subprocess
import sys
import time

import pytest
import torch

from lightning_cnn import threads
from lightning_cnn.threads import CoreUsage, available_cores, limited_to, num_threads, set_num_threads, watch


class FreeCores:
    """Stands for the usage of cores."""

    def __init__(self, free: float) -> None:
        self.free = free

    def free_cores(self) -> float:
        return self.free


@pytest.fixture
def cores(monkeypatch):
    """Let the machine have eight cores, of which the returned function leaves some free; torch has eight threads."""
    numbers = [8]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "available_cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: numbers[-1])
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    return lambda free: monkeypatch.setattr(threads, "_usage", FreeCores(free))


@pytest.mark.parametrize(("free", "number"), [(8, 8), (7.6, 8), (7.4, 7), (1.2, 1), (0.1, 1), (0.0, 1)])
def test_there_are_as_many_threads_as_free_cores(free, number, cores):
    cores(free)

    message = set_num_threads()

    assert torch.get_num_threads() == number
    assert message == (
        ""
        if number == 8
        else f"Threads: {number} (other processes leave {free:.1f} of 8 cores free; OMP_NUM_THREADS overrides it)"
    )


def test_there_are_no_more_threads_than_torch_has(cores, monkeypatch):
    """On processors with two threads per core, torch uses half of them."""
    cores(6.0)
    torch.set_num_threads(4)

    assert set_num_threads() == ""
    assert torch.get_num_threads() == 4


def test_a_run_keeps_its_number_of_threads(cores):
    cores(1.0)

    assert set_num_threads(recorded=5) == ""
    assert torch.get_num_threads() == 5


def test_a_run_of_a_larger_machine_has_as_many_threads_as_there_are_cores(cores):
    cores(3.0)

    set_num_threads(recorded=9)

    assert torch.get_num_threads() == 3


def test_the_environment_variable_goes_before(cores, monkeypatch):
    cores(1.0)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")

    assert set_num_threads(recorded=5) == ""
    assert torch.get_num_threads() == 8


@pytest.mark.parametrize("value", ["", "0", "abc", "-1", "1.5", "4x", "500m", "3 4"])
def test_a_variable_that_openmp_ignores_is_ignored(value, cores, monkeypatch):
    cores(1.0)
    monkeypatch.setenv("OMP_NUM_THREADS", value)

    set_num_threads()

    assert torch.get_num_threads() == num_threads()[0] == 1


@pytest.mark.usefixtures("_one_thread")
def test_threads_are_limited_within_a_block():
    torch.set_num_threads(2)

    with limited_to(1):
        within = torch.get_num_threads()

    assert (within, torch.get_num_threads()) == (1, 2)


# How busy the cores are


@pytest.fixture
def clock(monkeypatch):
    """Replace the samples: the returned function gives the last of them, after ten seconds."""
    monkeypatch.setattr(threads, "available_cores", lambda: 4)

    def last(idle: float, own: float, total: float = 40.0) -> float:
        samples = iter(
            [threads._Sample(0.0, 100.0, 1000.0, 3.0), threads._Sample(10.0, 100 + idle, 1000 + total, 3 + own)]
        )
        monkeypatch.setattr(threads, "_sample", lambda: next(samples))
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        return CoreUsage().free_cores()

    return last


def test_cores_that_are_idle_or_compute_for_this_process_are_free(clock):
    assert clock(idle=30.0, own=10.0) == 4
    assert clock(idle=20.0, own=10.0) == 3
    assert clock(idle=0.0, own=7.5) == 0.75
    assert clock(idle=30.5, own=10.0) == 4  # clocks differ


def test_where_nothing_is_counted_all_cores_are_free(clock):
    assert clock(idle=0.0, own=1.0, total=0.0) == 4


def test_where_a_sandbox_hides_them_all_cores_are_free(monkeypatch):
    def cpu_times(percpu):
        raise PermissionError

    monkeypatch.setattr("psutil.cpu_times", cpu_times)
    monkeypatch.setattr(threads, "available_cores", lambda: 4)

    assert CoreUsage().free_cores() == 4


def test_busy_processes_are_seen_in_a_fifth_of_a_second():
    """Each of as many processes as there are cores computes on one."""
    count = len(os.sched_getaffinity(0))
    busy = [
        subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=-1) for _ in range(count)
    ]
    try:
        for process in busy:
            process.stdout.readline()
        usage, started = CoreUsage(), time.perf_counter()
        free = usage.free_cores()
        seconds = time.perf_counter() - started
    finally:
        for process in busy:
            process.kill()
            process.communicate()

    assert free < 0.5
    assert seconds >= 0.2


@pytest.mark.usefixtures("_one_thread")
def test_without_watching_before_cores_are_watched_now(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_usage", None)

    set_num_threads()

    assert torch.get_num_threads() == 1


def test_watching_begins_anew_with_each_command(monkeypatch):
    monkeypatch.setattr(threads, "_usage", None)

    watch()
    first = threads._usage
    watch()

    assert isinstance(first, CoreUsage) and first is not threads._usage


# Which cores there are


@pytest.mark.parametrize(
    ("content", "cores"),
    [("max 100000\n", 6), ("200000 100000\n", 2), ("50000 100000\n", 1), ("900000 100000\n", 6), ("", 6), ("x y\n", 6)],
)
def test_the_quota_of_a_container_counts(content, cores, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    monkeypatch.setattr(threads, "_QUOTA", tmp_path / "cpu.max")
    (tmp_path / "cpu.max").write_text(content)

    assert available_cores() == cores


def test_without_control_groups_and_affinity_all_cores_count(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    monkeypatch.setattr(threads, "_QUOTA", tmp_path / "cpu.max")

    assert available_cores() == 5


@pytest.mark.parametrize(("free", "number"), [(8, 4), (3.4, 3), (0.0, 1)])
def test_what_is_not_computed_by_torch_has_as_many_threads_as_free_cores(free, number, cores, monkeypatch):
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 4)
    cores(free)

    found, message = num_threads()

    assert found == number
    assert bool(message) == (number < 4)
    assert torch.get_num_threads() == 8


@pytest.mark.parametrize(("value", "number"), [("3", 3), (" 05,2", 5), ("99999", 256)])
def test_the_environment_variable_goes_before_in_any_case(value, number, cores, monkeypatch):
    cores(1.0)
    monkeypatch.setenv("OMP_NUM_THREADS", value)

    assert num_threads() == (number, "")
