"""How the threads of an operation wait for each other: awake on free cores, asleep beside busy processes.

A thread of GNU OpenMP that waits for the others looks some 300,000 times whether they are done before it gives up its
core. That is quicker than to be woken, unless another process keeps one of the others from its core: then a step takes
five times as long. But GNU OpenMP looks a hundred times only while it has more threads than there are cores, see
`GOMP_SPINCOUNT` in its manual. So while other processes are busy, a second team of threads sleeps beside that of torch.
It is counted, and computes nothing; the number of torch's threads, and so every sum, stays the same. Beside one busy
process, an epoch of `MLP` takes 3.5 s in place of 11.6 s with two threads; with one thread it takes 2.7 s.
"""

import ctypes
import sys
import threading

from lightning_cnn.threads import CoreUsage, own_cores

#: Seconds after which it is looked again how busy the cores are.
_INTERVAL = 0.5


class _Background(threading.Thread):
    """A thread that runs until it is ended."""

    def __init__(self, name: str) -> None:
        super().__init__(name=f"lightning-cnn {name}", daemon=True)
        self.ended = threading.Event()

    def end(self) -> None:
        """End the thread, and wait for its end."""
        self.ended.set()
        self.join()


class _SleepingTeam(_Background):
    """A team of so many OpenMP threads, of which this one is the first; they end with it."""

    def __init__(self, size: int) -> None:
        super().__init__("sleeping team")
        self.size = size

    def run(self) -> None:
        library = ctypes.CDLL(None)
        library.GOMP_parallel(library.getpid, None, self.size, 0)  # anything that takes no time
        self.ended.wait()


class _Watch(_Background):
    """Lets a team sleep as long as other processes need the cores of so many threads."""

    def __init__(self, threads: int) -> None:
        super().__init__("core usage")
        self.threads = threads

    def run(self) -> None:
        team: _SleepingTeam | None = None
        usage = CoreUsage()
        while not self.ended.wait(_INTERVAL):
            needed = round(usage.free_cores()) < self.threads
            usage = CoreUsage()
            if needed and team is None:
                # Its first thread is none of OpenMP's, so that there is just one thread more than there are cores.
                team = _SleepingTeam(len(own_cores()) - self.threads + 2)
                team.start()
            elif not needed and team is not None:
                team.end()
                team = None
        if team is not None:
            team.end()


_watch: _Watch | None = None


def sleep_beside_others(threads: int) -> None:
    """From now on, let threads that wait sleep at once while other processes need their cores.

    Does nothing without GNU OpenMP, which torch has on Linux only.

    Args:
        threads: The number of torch's threads; 1, which waits for none, ends it.

    Example:
        >>> sleep_beside_others(threads=1)
    """
    global _watch
    if _watch is not None and _watch.threads != threads:
        _watch.end()
        _watch = None
    if _watch is None and threads > 1 and sys.platform == "linux" and hasattr(ctypes.CDLL(None), "GOMP_parallel"):
        _watch = _Watch(threads)
        _watch.start()
