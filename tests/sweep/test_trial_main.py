import signal
import subprocess
import sys

import pytest

CODE = """
import signal, time
from lightning_cnn.sweep import trial_main
trial_main._PATIENCE = 0.2
signal.signal(signal.SIGTERM, {handler})
trial_main.end_with_parent()
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("handler", "end"),
    [("signal.SIG_DFL", signal.SIGTERM), ("signal.SIG_IGN", signal.SIGKILL)],
    ids=["terminated", "killed"],
)
def test_a_process_ends_with_its_parent(handler, end):
    command = [sys.executable, "-c", CODE.format(handler=handler)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        assert process.poll() is None
        process.stdin.close()

        assert process.wait(10) == -end
