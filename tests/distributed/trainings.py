"""The same training in any number of processes, and what it came to."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed.processes import run

#: Two epochs of 48, 48 and 54 augmented images, the last of which four processes cannot share evenly; 13 test batches.
FIT = (
    *("fit", "--model", "CNNClassifier", "--data", "MNISTDataModule", "--test", "true"),
    *("--data.val_size", "50", "--data.global_batch_size", "48", "--data.eval_batch_size", "8"),
    *("--data.augment", "CropAndRotate", "--trainer.max_epochs", "2", "--trainer.precision", "32-true"),
    *("--trainer.log_every_n_steps", "1", "--plots.enabled", "false", "--dashboard.enabled", "false"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    *("--trainer.callbacks+=distributed.witness.Witness", "--trainer.callbacks.folder", "witness"),
)
#: How far losses may be from those of one process, as a share. The gradient of a step is the same sum in another order,
#: so that weights and losses differ by some roundings of float32, 6e-8 each; Adam, which divides by the size of a
#: gradient, makes more of those of small ones. A GPU rounds to 10 bits, 5e-4, what it multiplies in convolutions.
#: Images that are weighed wrongly in one step of four processes change its loss by 2e-4.
TOLERANCE = {"cpu": 1e-5, "gpu": 1e-3}


@dataclass(frozen=True)
class Training:
    """A training in a folder of its own.

    Attributes:
        folder: Where it was started.
        printed: What all its processes have printed.
    """

    folder: Path
    printed: str

    @property
    def run(self) -> Path:
        """The run folder, of which there is one."""
        (run,) = (self.folder / "logs").glob("*/*")
        return run

    @property
    def files(self) -> list[str]:
        """What is in the run folder, with one name for all files of events."""
        files = (path.relative_to(self.run) for path in self.run.rglob("*") if path.is_file())
        return sorted("events" if path.name.startswith("events.out.") else str(path) for path in files)

    @property
    def losses(self) -> list[dict[str, float]]:
        """The losses in each row of `metrics.csv`."""
        return [{name: float(row[name]) for name in row if "loss" in name and row[name]} for row in self._metrics]

    @property
    def other_metrics(self) -> list[dict[str, str]]:
        """What else is in each row: epoch, step, learning rate, accuracy."""
        return [{name: row[name] for name in row if "loss" not in name} for row in self._metrics]

    @property
    def _metrics(self) -> list[dict[str, str]]:
        with (self.run / "metrics.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    @property
    def witnesses(self) -> list[dict[str, Any]]:
        """What the callback `Witness` has written, process by process."""
        return [json.loads(file.read_text()) for file in sorted((self.folder / "witness").iterdir())]

    @property
    def steps(self) -> list[list[int]]:
        """The images of each step of all processes: of N, each has every N-th."""
        shares = [witness["steps"] for witness in self.witnesses]
        return [_in_turn(step) for step in zip(*shares, strict=True)]

    @property
    def left_over(self) -> list[str]:
        """What our processes have left in the folder for temporary files."""
        return [path.name for path in (self.folder / "tmp").glob("lightning*")]


def _in_turn(shares: tuple[list[int], ...]) -> list[int]:
    whole = [0] * sum(map(len, shares))
    for rank, share in enumerate(shares):
        whole[rank :: len(shares)] = share
    return whole


def train(folder: Path, data: Path, *flags: str, **how: Any) -> Training:
    """Train with more flags; `how` goes to `processes.run`."""
    temporary = folder / "tmp"
    temporary.mkdir()
    ended = run((*FIT, *flags), folder=folder, data=data, environment={"TMPDIR": str(temporary)}, **how)
    assert ended.status == 0, ended.printed
    return Training(folder, ended.printed)
