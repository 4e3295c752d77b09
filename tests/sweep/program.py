"""`lightning-cnn sweep` without the check of `fit` and without figures, and with stubs unless SWEEP_DATA is set.

SWEEP_PATIENCE is the time in seconds for which a storage that is away is tried again.
The workers start `fit` by this name as well; it finds the tiny dataset in the folder that SWEEP_DATA names.
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SETTINGS = {
    "trainer": {"default_root_dir": "logs", "enable_progress_bar": None},
    "plots": {"enabled": True},
    "checkpoints": {"monitor": "val/acc", "mode": "max"},
}
#: Takes the place of `lightning_cnn.sweep.figures`, whose imports and drawings take seconds.
NO_FIGURES: Any = SimpleNamespace(write_figures=lambda *_: None)


def accepting(settings: dict[str, Any]) -> tuple[str, str, str]:
    """Return a program in place of the check of `fit`, which accepts these settings."""
    code = f"import json, sys; print(json.dumps({{'test': '--test=true' in json.load(sys.stdin)[0], **{settings!r}}}))"
    return (sys.executable, "-c", code)


def replace() -> None:
    from lightning_cnn.commands import sweep
    from lightning_cnn.sweep import storage, trial_process

    sys.modules["lightning_cnn.sweep.figures"] = NO_FIGURES
    storage.HEARTBEAT = 1
    storage.PATIENCE = float(os.environ.get("SWEEP_PATIENCE", storage.PATIENCE))
    sweep.CHECK = accepting(SETTINGS)
    program = "sweep.program" if "SWEEP_DATA" in os.environ else "sweep.stub"
    trial_process.PROGRAM = (sys.executable, "-m", program)


if __name__ == "__main__":
    if sys.argv[1] == "sweep":
        replace()
    else:
        from chaos.child import expect_tiny_datasets

        from lightning_cnn.sweep.trial_main import end_with_parent

        end_with_parent()
        expect_tiny_datasets(Path(os.environ["SWEEP_DATA"]))
    from lightning_cnn.cli import run

    run()
