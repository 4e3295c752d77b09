"""`lightning-cnn sweep` with a quick heart and no questions, and with stubs unless SWEEP_DATA names a data folder.

`fit`, which the workers start by this name as well, knows the tiny dataset that is there.
"""

import os
import sys
from pathlib import Path

SETTINGS = '{"trainer": {"default_root_dir": "logs", "enable_progress_bar": null}, "plots": {"enabled": true}}'


def be_quick() -> None:
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
        be_quick()
    else:
        from chaos.child import know_the_data

        from lightning_cnn.sweep.trial_main import end_with_parent

        end_with_parent()
        know_the_data(Path(os.environ["SWEEP_DATA"]))
    from lightning_cnn.cli import run

    run()
