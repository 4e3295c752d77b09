"""`metrics.csv`: every figure that a run logged, one row for each step at which something was logged."""

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from lightning_cnn.files import atomic_write

_FIRST_COLUMNS = ("epoch", "step")


class MetricsCSV(Logger):
    """Collects rows and writes the file before each checkpoint, and at the end.

    A run that goes on in the same folder keeps the rows up to where it goes on; Lightning's CSVLogger would delete
    them. What the file has beyond that is logged again.

    Args:
        folder: The run folder.
        first_step: Where a run goes on; rows of this step and later ones are forgotten. None for a new run.
    """

    def __init__(self, folder: Path, first_step: int | None = None) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self._rows: list[dict[str, Any]] = []
        if first_step is not None and self.path.is_file():
            with self.path.open(newline="") as file:
                rows = [(int(row["step"]), row) for row in csv.DictReader(file)]
            self._rows = [{**row, "step": step} for step, row in rows if step < first_step]

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    @property
    def name(self) -> str:
        """Empty: the run folder is not below this logger's."""
        return ""

    @property
    def version(self) -> str:
        """Empty: the run folder has its version already."""
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `config.yaml` has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add figures to the row of their step."""
        assert step is not None
        if not self._rows or self._rows[-1]["step"] != step:
            self._rows.append({"step": step})
        self._rows[-1].update(metrics)

    def finalize(self, status: str) -> None:
        """Write the file."""
        self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write the file."""
        if not self._rows:
            return
        names = sorted({name for row in self._rows for name in row} - set(_FIRST_COLUMNS))
        with atomic_write(self.path) as path, path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*_FIRST_COLUMNS, *names])
            writer.writeheader()
            writer.writerows(self._rows)
