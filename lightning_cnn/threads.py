"""How many threads torch and ONNX Runtime compute with on a CPU, so that other processes do not stop it.

The threads of an operation wait at its end until all have done their part. If another process keeps one of them from
its core, the others wait for it: a step can take twenty times as long as with one thread. So there are no more threads
than cores that other processes leave free; `lightning_cnn.waiting` is for processes that begin later. Their niceness
does not count: Linux heeds it only among the processes of one session, so a nice job of another terminal takes as much.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

#: Seconds for which cores must be watched to see how busy they are.
_MIN_SECONDS = 0.2
#: A value of `OMP_NUM_THREADS` that OpenMP accepts, with its first number; it ignores others.
_OMP_NUMBER = re.compile(r"\s*0*([1-9][0-9]{0,8})\s*(?:,|$)")
#: The most threads that are started, whatever the environment says.
_MOST_THREADS = 256
#: The quota of a container, in microseconds per period, as Linux's control groups (version 2) give it.
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class _Sample(NamedTuple):
    """The clock, and the seconds until now that cores were idle, were anything, and computed for this process."""

    clock: float
    idle: float
    total: float
    own: float


class CoreUsage:
    """How busy the cores of this process are with other processes, from its creation on.

    Example:
        >>> 0 <= CoreUsage().free_cores() <= available_cores()
        True
    """

    def __init__(self) -> None:
        self._first = _sample()

    def free_cores(self) -> float:
        """Return the number of cores that other processes leave free, on average; all of them if it is not known."""
        time.sleep(max(0.0, _MIN_SECONDS - (time.perf_counter() - self._first.clock)))
        last, cores = _sample(), available_cores()
        clock, idle, total, own = (after - before for after, before in zip(last, self._first, strict=True))
        if total < 0.5 * clock * cores:  # a sandbox hides them, or counts nothing
            return cores
        return min(cores, (idle + own) / clock)


_usage: CoreUsage | None = None


def watch() -> None:
    """Begin to watch how busy the cores are; a command does so before it imports torch, which takes long enough."""
    global _usage
    _usage = CoreUsage()


def set_num_threads(recorded: int | None = None) -> str:
    """Set the number of threads of torch to that of the cores that other processes leave free.

    The environment variable `OMP_NUM_THREADS` goes before. It is done once, before the work begins: the rounding of
    sums depends on the number.

    Args:
        recorded: The number with which a run was begun; it is used again if there are as many cores.

    Returns:
        One line if the number is smaller because of other processes, otherwise nothing.

    Example:
        >>> message = set_num_threads()
    """
    import torch

    cores, most = available_cores(), torch.get_num_threads()
    if _OMP_NUMBER.match(os.environ.get("OMP_NUM_THREADS", "")):
        return ""
    if recorded is not None and recorded <= cores:
        torch.set_num_threads(recorded)
        return ""
    number, message = _free_threads(min(most, cores))
    torch.set_num_threads(number)
    return message


def num_threads() -> tuple[int, str]:
    """Return the number of threads for what is not computed by torch, likewise, and one line or nothing.

    Example:
        >>> number, message = num_threads()
        >>> 1 <= number
        True
    """
    if given := _OMP_NUMBER.match(os.environ.get("OMP_NUM_THREADS", "")):
        return min(int(given[1]), _MOST_THREADS), ""
    return _free_threads(min(psutil.cpu_count(logical=False) or 1, available_cores()))


def _free_threads(most: int) -> tuple[int, str]:
    """Return how many of so many threads have a free core, at least 1, and one line if that is not all of them."""
    cores = available_cores()
    free = (_usage or CoreUsage()).free_cores()
    number = max(1, min(most, round(free)))
    if number == most:
        return number, ""
    return (
        number,
        f"Threads: {number} (other processes leave {free:.1f} of {cores} cores free; OMP_NUM_THREADS overrides it)",
    )


@contextmanager
def limited_to(number: int) -> Iterator[None]:
    """Compute with this number of threads within the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def available_cores() -> int:
    """Return the number of cores that this process may use: those it is bound to, or as many as its container may."""
    cores = len(own_cores())
    with suppress(OSError, ValueError):  # there is no quota
        quota, period = _QUOTA.read_text(encoding="ascii").split()
        cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


def own_cores() -> list[int]:
    """Return the numbers of the cores that this process is bound to."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _sample() -> _Sample:
    times = []
    with suppress(OSError):  # hidden by a sandbox
        times = psutil.cpu_times(percpu=True)
    cores = [times[core] for core in own_cores() if core < len(times)]
    idle = sum(core.idle + getattr(core, "iowait", 0.0) for core in cores)
    own = sum(os.times()[:4])  # also of processes that it has started and waited for
    return _Sample(time.perf_counter(), idle, sum(map(sum, cores)), own)
