"""``python -m lightning_cnn.sweep.trial_main``: `lightning-cnn`, for as long as whoever has started it is there.

Its stdin is a pipe that nobody writes to. It closes when the other process ends, however that comes: with SIGKILL too,
on Linux and on macOS alike, and no process that runs by itself is left behind.
"""

import os
import signal
import threading
import time

from lightning_cnn.cli import run

#: Seconds to save in, before the process is killed.
_PATIENCE = 20


def end_with_parent() -> None:
    """End this process when its stdin closes: by SIGTERM, which saves, and if that does not do it, by SIGKILL."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    end_with_parent()
    run()
