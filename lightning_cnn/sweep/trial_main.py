"""``python -m lightning_cnn.sweep.trial_main``: `lightning-cnn` in a process that ends with its parent.

A worker of a sweep starts each trial with it. Its stdin is a pipe that closes when the parent ends, even by SIGKILL, on
Linux and on macOS.
"""

import os
import signal
import threading
import time

from lightning_cnn.cli import run
from lightning_cnn.errors import DivergenceError

#: Exit status of a trial whose training has diverged: a result of its settings, not a failure.
DIVERGED = 3
#: Seconds to save the checkpoint before the process is killed.
_PATIENCE = 20


def end_with_parent() -> None:
    """End this process when its stdin closes: by SIGTERM, after which `fit` saves, and then by SIGKILL."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    end_with_parent()
    DivergenceError.exit_status = DIVERGED
    run()
