"""What can be set for `fit`, `validate` and `test`, besides model and data."""

from typing import Any, Literal

from lightning_cnn.callbacks import Checkpoints, Dashboard, Plots
from lightning_cnn.config.schema import Schema
from lightning_cnn.training.distillation import Distillation
from lightning_cnn.training.trainer import Trainer

#: The groups of settings, each of the arguments of a class.
GROUPS = {
    "trainer": Trainer,
    "checkpoints": Checkpoints,
    "distillation": Distillation,
    "plots": Plots,
    "dashboard": Dashboard,
}
#: The other settings of a command, with their types, defaults and help.
OPTIONS: dict[str, dict[str, tuple[Any, Any, str]]] = {
    command: {
        "deterministic": (
            bool,
            False,
            "Make repeated runs bit-identical: only deterministic algorithms, all cores even if they are busy, and, "
            "unless a precision is given, float32 instead of the precision probe, which depends on timing. On one "
            "processor, float32 takes 1.5 (SimpleCNN) to 1.8 (DeepCNN) times as long as bfloat16. Needs the same "
            "machine, versions and number of threads.",
        )
    }
    for command in ("fit", "validate", "test")
}
OPTIONS["fit"] |= {
    "test": (bool, False, "Test the best weights after training."),
    "overwrite": (
        bool,
        False,
        "Resume from an earlier checkpoint than the last one of the run, and discard the steps after it.",
    ),
    "resume": (
        Literal["auto"] | None,
        None,
        "`auto` resumes the run that this SLURM or torchrun job has started, or else the newest unfinished run with "
        "the same settings; if there is none, it starts a new run. A job that SLURM has requeued resumes its own run "
        "in any case.",
    ),
}
OPTIONS["validate"] |= {"verbose": (bool, True, "Print the metrics.")}
OPTIONS["test"] |= {
    "overwrite": (bool, False, "Replace the results of a whole test by those of other weights, or of fewer images."),
    "verbose": (bool, True, "Print the metrics."),
}


def schema(command: str) -> Schema:
    """Return what can be set for a command."""
    options = {name: kind for name, (kind, _, _) in OPTIONS[command].items()}
    return Schema(GROUPS, {"seed_everything": bool | int, **options})
