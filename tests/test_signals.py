import os
import pty
import signal
import sys

import pytest
from checkout import PYTHONPATH

from lightning_cnn import signals
from lightning_cnn.errors import Interrupted

#: Waits for a signal, and prints while it is handled, as a clean-up may.
PROGRAM = """
import sys, time
from lightning_cnn import signals
from lightning_cnn.errors import Interrupted
from lightning_cnn.errors import Interrupted

signals.handle()
try:
    print("ready", flush=True)
    while True:
        time.sleep(0.05)
except Interrupted as interrupted:
    print("cleaning up", flush=True)
    print("stopped", file=sys.stderr, flush=True)
    sys.exit(interrupted.exit_status)
"""


@pytest.fixture
def in_terminal():
    """Start the program in a terminal of its own, and return its process and the other end of the terminal."""

    def start(*command: str) -> tuple[int, int]:
        process, terminal = pty.fork()
        if not process:
            os.execve(command[0], command, os.environ | {"PYTHONPATH": PYTHONPATH})
        assert b"ready" in os.read(terminal, 100)
        return process, terminal

    return start


def test_output_after_a_closed_terminal_is_no_error(in_terminal):
    process, terminal = in_terminal(sys.executable, "-c", PROGRAM)

    os.close(terminal)  # the system sends SIGHUP

    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP


def test_output_to_an_open_terminal_is_kept(in_terminal):
    process, terminal = in_terminal(sys.executable, "-c", PROGRAM)

    os.kill(process, signal.SIGHUP)

    os.waitpid(process, 0)
    assert b"stopped" in os.read(terminal, 100)


@pytest.mark.parametrize(("handler", "is_handled"), [(signal.SIG_DFL, True), (signal.SIG_IGN, False)])
def test_a_hangup_stays_ignored_after_nohup(handler, is_handled):
    before = {signum: signal.signal(signum, handler) for signum in signals.SIGNALS}

    signals.handle()
    found = {signum: signal.signal(signum, old) == signals.interrupt for signum, old in before.items()}

    assert found == {signal.SIGINT: True, signal.SIGTERM: True, signal.SIGHUP: is_handled}


def test_a_signal_waits_until_the_end_of_the_block():
    before = {signum: signal.signal(signum, signals.interrupt) for signum in signals.SIGNALS}
    noted = []

    def work():
        with signals.deferred(lambda: noted.append("signal")):
            signal.raise_signal(signal.SIGTERM)
            noted.append("after it")

    with pytest.raises(Interrupted, match="SIGTERM"):
        work()
    for signum, handler in before.items():
        signal.signal(signum, handler)

    assert noted == ["signal", "after it"]


def test_output_is_discarded_when_nobody_reads_it():
    before = os.dup(1)
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    try:
        was_open = not signals.leave_closed_output()
        os.close(reader)
        is_closed = signals.leave_closed_output()
        written = os.write(1, b"discarded")
    finally:
        os.dup2(before, 1)
        os.close(before)
        os.close(writer)

    assert (was_open, is_closed, written) == (True, True, 9)
