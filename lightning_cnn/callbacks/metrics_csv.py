"""The logger that writes `metrics.csv`: one row per step at which anything was logged."""

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from lightning_cnn.errors import UserError
from lightning_cnn.files import atomic_write, limited_lines
from lightning_cnn.run import Run
from lightning_cnn.text import spreadsheet_safe, text_from_spreadsheet

_FIRST_COLUMNS = ("epoch", "step")
#: Size of the largest file to resume with, whose rows are kept in memory.
_MAX_BYTES = 2**26


def read_rows(path: Path, first_step: int) -> list[dict[str, str]]:
    """Return the rows of a file of metrics before a step.

    Raises:
        UserError: If the file is damaged, or too large to be kept in memory.
    """
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise UserError(f"{path} has {size:,} bytes, more than {_MAX_BYTES:,}, to resume with; move it elsewhere")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(limited_lines(file), restkey="", strict=True)
        try:
            rows = [row for row in reader if int(row["step"]) < first_step]
            if any("" in row or None in row.values() for row in rows):
                raise ValueError("a row has not as many values as there are columns")
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise UserError(
                f"{path} is damaged near line {reader.line_num} ({error}); repair it, or move it elsewhere"
            ) from error
    return rows


class MetricsCSV(Logger):
    """Keeps all rows in memory and writes the file before each checkpoint and at the end.

    It does not extend Lightning's `CSVLogger`, which deletes the rows of a resumed run, appends in place, and writes a
    row for each call.

    Args:
        folder: The run folder.
        first_step: The step at which a run is resumed; rows from it on are dropped and logged again. None for a new
            run.
    """

    name = ""  # the run folder is not below a folder of this logger …
    version = ""  # … and has a version of its own

    def __init__(self, folder: Path, first_step: int | None = None) -> None:
        super().__init__()
        self.path = Run(folder).metrics_file
        self._rows: list[dict[str, Any]] = []
        if first_step is not None and self.path.is_file():
            rows = read_rows(self.path, first_step)
            names = {name: text_from_spreadsheet(name) for name in rows[0]} if rows else {}
            self._rows = [{**{names[n]: value for n, value in row.items()}, "step": int(row["step"])} for row in rows]

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `config.yaml` has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add values to the row of their step."""
        assert step is not None
        if not self._rows or self._rows[-1]["step"] != step:
            self._rows.append({"step": step})
        self._rows[-1].update(metrics)

    def save(self) -> None:
        """Do nothing: Lightning calls this after every `log_metrics`, and writing takes milliseconds."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the file."""
        self.write()

    @rank_zero_only
    def write(self) -> None:
        """Write the file; `Checkpoints` does so before each checkpoint."""
        if not self._rows:
            return
        names = sorted({name for row in self._rows for name in row} - set(_FIRST_COLUMNS))
        with atomic_write(self.path) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*_FIRST_COLUMNS, *names])
            writer.writerow({name: spreadsheet_safe(name) for name in writer.fieldnames})
            writer.writerows(self._rows)
