"""The signals that end a command: Ctrl-C, SIGTERM, and SIGHUP, which comes when a terminal is closed."""

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from lightning_cnn.environment import is_rank_zero
from lightning_cnn.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def handle() -> None:
    """Let each signal raise `Interrupted` in the main thread; SIGHUP stays ignored after `nohup`."""
    for signum in SIGNALS:
        if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, interrupt)


def interrupt(signum: int, _: FrameType | None) -> NoReturn:
    """Raise `Interrupted`, so that incomplete files are removed."""
    ignore()  # a second signal must not interrupt the clean-up
    leave_closed_output()
    raise Interrupted(signal.Signals(signum), already_reported=not is_rank_zero())


def ignore() -> None:
    """Ignore all of them from now on."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


@contextmanager
def deferred(on_signal: Callable[[], None] | None = None) -> Iterator[None]:
    """Handle signals after the block, where their handlers are functions of Python; only the main thread has any.

    A mask would not do: the system gives the signal to another thread, and Python handles it in the main one.

    Args:
        on_signal: Called in the block when a signal comes.
    """
    received: list[int] = []

    def defer(signum: int, _: FrameType | None) -> None:
        received.append(signum)
        if on_signal is not None:
            on_signal()

    handled = [signum for signum in SIGNALS if callable(signal.getsignal(signum))]  # `nohup` ignores SIGHUP
    if threading.current_thread() is not threading.main_thread():
        handled = []
    before = {signum: signal.signal(signum, defer) for signum in handled}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        if received:
            signal.raise_signal(received[0])


def leave_closed_output() -> bool:
    """Discard further output to a terminal that is closed, or to a pipe that nobody reads any more.

    Writing to it is an error, which would come in the middle of a clean-up.

    Returns:
        Whether there is such output.
    """
    found = False
    for descriptor in (1, 2):
        if _is_closed(descriptor):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
            found = True
    return found


def _is_closed(descriptor: int) -> bool:
    other_end = select.poll()
    other_end.register(descriptor, 0)  # what is reported then are errors
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in other_end.poll(0))
