"""`lightning-cnn sweep` with short heartbeats and no check of `fit`, and with stubs unless SWEEP_DATA is set.

The workers start `fit` by this name as well; it finds the tiny dataset in the folder that SWEEP_DATA names.
"""

import os
import sys
from pathlib import Path

SETTINGS = '{"trainer": {"default_root_dir": "logs", "enable_progress_bar": null}, "plots": {"enabled": true}}'


def shorten() -> None:
    from lightning_cnn.commands import sweep
    from lightning_cnn.sweep import storage, trial_process

    storage.HEARTBEAT, storage.GRACE = 1, 3
    sweep.CHECK = (sys.executable, "-c", f"print({SETTINGS!r})")
    if "SWEEP_DATA" in os.environ:
        trial_process.PROGRAM = (sys.executable, "-m", "sweep.program")
    else:
        trial_process.PROGRAM = (sys.executable, "-m", "sweep.stub")


if __name__ == "__main__":
    if sys.argv[1] == "sweep":
        shorten()
    else:
        from chaos.child import know_the_data

        from lightning_cnn.sweep.trial_main import end_with_parent

        end_with_parent()
        know_the_data(Path(os.environ["SWEEP_DATA"]))
    from lightning_cnn.cli import run

    run()
