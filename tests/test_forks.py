"""A fork is like the process that `subprocess` starts with the same arguments."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import forks
import pytest

#: Prints what a process is, and ends with a status.
SHOW = """
import os, signal, sys, tempfile
for stream in (sys.stdin, sys.stdout, sys.stderr):
    stream.reconfigure(errors="backslashreplace")
    print(stream.encoding, stream.isatty(), stream.seekable(), stream.line_buffering)
print(sys.argv, __name__, os.getcwd(), os.environ["FORKS"], os.getppid(), sys.stdin.read())
print(os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpgid(os.getppid()), tempfile.gettempdir())
print([signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)])
print("module" in sys.path[0], [path for path in sys.path[1:] if path])
print(sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1], file=sys.stderr)
sys.exit(7)
"""
#: Starts a process that prints whether it is a fork, and waits.
PARENT = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "import sys, time; print('torch' in sys.modules, flush=True); time.sleep(60)"])
"""
KINDS = [subprocess.Popen, forks.Popen]


def run(kind, *command: str, **options) -> tuple[int, str, str]:
    """Run a command of Python to its end."""
    with kind([sys.executable, *command], stdin=-1, stdout=-1, stderr=-1, text=True, **options) as process:
        out, err = process.communicate("input", timeout=60)
    return process.returncode, out, err


@pytest.fixture
def module(tmp_path) -> Path:
    (tmp_path / "module").mkdir()
    (tmp_path / "module/show.py").write_text(SHOW)
    return tmp_path / "module"


@pytest.mark.parametrize("command", [("-m", "show"), ("-c", SHOW)], ids=["module", "code"])
@pytest.mark.parametrize("is_leader", [True, False])
def test_a_fork_has_the_state_of_a_new_process(command, is_leader, module):
    environment = {**os.environ, "FORKS": "yes", "TMPDIR": str(module)}
    options = {"cwd": module, "env": environment, "start_new_session": is_leader}

    real, fork = (run(kind, *command, "an argument", **options) for kind in KINDS)

    assert real[0] == 7
    assert fork == real


@pytest.mark.parametrize(
    "code", ["", "import sys; sys.exit('sorry')", "1 / 0", "import os; os._exit(3)", "import os; os.kill(0, 15)"]
)
def test_a_fork_ends_like_a_new_process(code):
    real, fork = (run(kind, "-c", code, start_new_session=True) for kind in KINDS)

    assert fork[:2] == real[:2]
    assert fork[2].splitlines()[-1:] == real[2].splitlines()[-1:]


def test_a_fork_has_imported_everything():
    code = "import sys; print([name for name in ('torch', 'lightning.pytorch', 'matplotlib') if name in sys.modules])"

    assert run(forks.Popen, "-c", code)[1] == "['torch', 'lightning.pytorch']\n"  # as after `fit`


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_a_fork(signum):
    with forks.Popen([sys.executable, "-c", "print(flush=True); import time; time.sleep(60)"], stdout=-1) as process:
        process.stdout.readline()
        process.send_signal(signum)

        assert process.wait(10) == -signum


def test_processes_of_a_fork_are_forks_that_end_with_their_group():
    options = {"stdout": -1, "text": True, "has_forks": True, "start_new_session": True}
    with forks.Popen([sys.executable, "-c", PARENT], **options) as process:
        assert process.stdout.readline() == "True\n"
        os.killpg(process.pid, signal.SIGKILL)

        assert process.wait(10) == -signal.SIGKILL
        assert process.stdout.read() == ""


def test_another_command_is_started_as_ever():
    with forks.Popen(["sh", "-c", "exit 3"]) as process:
        assert process.wait(10) == 3


def test_forks_do_not_share_random_numbers():
    code = "import random, numpy; print(random.random(), numpy.random.rand())"

    first, second = (run(forks.Popen, "-c", code)[1].split() for _ in range(2))

    assert not {*first} & {*second}
