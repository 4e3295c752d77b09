"""The same training in any number of processes, and its results."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed.processes import run

#: Two epochs of 48, 48 and 54 augmented images, the last of which four ranks cannot share evenly; 13 test batches.
FIT = (
    *("fit", "--model", "CNNClassifier", "--data", "MNISTDataModule", "--test", "true"),
    *("--data.val_size", "50", "--data.global_batch_size", "48", "--data.eval_batch_size", "8"),
    *("--model.class_weights", "[1, 2, 0.5, 1, 3, 1, 0.25, 1, 1, 2]", "--checkpoints.monitor", "val/f1"),
    *("--distillation.teachers", "[mnist/tiny]"),
    *("--model.metrics.f1", "MulticlassF1Score", "--model.metrics.auroc", "MulticlassAUROC"),
    *("--data.augment", "CropAndRotate", "--trainer.max_epochs", "2", "--trainer.precision", "32-true"),
    *("--trainer.log_every_n_steps", "1", "--plots.enabled", "false", "--dashboard.enabled", "false"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    *("--checkpoints.every_n_steps", "1"),
    *("--trainer.callbacks+=distributed.recording.BatchRecorder", "--trainer.callbacks.folder", "batches"),
)
#: Largest relative difference of a loss from that of one process. The gradient of a step is the same sum in another
#: order, so weights and losses differ by some roundings of float32, 6e-8 each; Adam, which divides by the size of a
#: gradient, amplifies those of small ones. A GPU rounds the factors of convolutions to 10 bits, 5e-4.
#: Images that are weighted wrongly in one step of four ranks change its loss by 2e-4.
TOLERANCE = {"cpu": 1e-5, "gpu": 1e-3}


@dataclass(frozen=True)
class Training:
    """A training in a folder of its own.

    Attributes:
        folder: Where it was started.
        output: The output of all its processes.
    """

    folder: Path
    output: str

    @property
    def run(self) -> Path:
        """The run folder, of which there is one."""
        (run,) = (self.folder / "logs").glob("*/*")
        return run

    @property
    def files(self) -> list[str]:
        """The files in the run folder, with one name for all files of events."""
        files = (path.relative_to(self.run) for path in self.run.rglob("*") if path.is_file())
        return sorted("events" if path.name.startswith("events.out.") else str(path) for path in files)

    @property
    def losses(self) -> list[dict[str, float]]:
        """The losses in each row of `metrics.csv`."""
        return [{name: float(row[name]) for name in row if "loss" in name and row[name]} for row in self._metrics]

    @property
    def other_metrics(self) -> list[dict[str, str]]:
        """The other columns of each row: epoch, step, learning rate, accuracy."""
        return [{name: row[name] for name in row if "loss" not in name} for row in self._metrics]

    @property
    def _metrics(self) -> list[dict[str, str]]:
        with (self.run / "metrics.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    @property
    def ranks(self) -> list[dict[str, Any]]:
        """What `BatchRecorder` has written, rank by rank."""
        return [json.loads(file.read_text()) for file in sorted((self.folder / "batches").iterdir())]

    @property
    def steps(self) -> list[list[int]]:
        """The images of each step of all ranks: of N, each has every N-th."""
        shares = [rank["steps"] for rank in self.ranks]
        return [_interleave(step) for step in zip(*shares, strict=True)]

    @property
    def left_over(self) -> list[str]:
        """What our processes have left in the folder for temporary files."""
        return [path.name for path in (self.folder / "tmp").glob("lightning*")]


def _interleave(shares: tuple[list[int], ...]) -> list[int]:
    whole = [0] * sum(map(len, shares))
    for rank, share in enumerate(shares):
        whole[rank :: len(shares)] = share
    return whole


def train(folder: Path, data: Path, *flags: str, environment: dict[str, str] | None = None, **options: Any) -> Training:
    """Train with more flags; the options are those of `processes.run`."""
    temporary = folder / "tmp"
    temporary.mkdir()
    environment = {"TMPDIR": str(temporary), **(environment or {})}
    ended = run((*FIT, *flags), folder=folder, data=data, environment=environment, **options)
    assert ended.status == 0, ended.output
    return Training(folder, ended.output)
