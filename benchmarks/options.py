"""The options of the benchmark, as every section needs them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Options:
    """What to measure, and on which data.

    Attributes:
        repeats: Repeats of each measurement, at least 1.
        systems: Names of systems, of `systems.SYSTEMS`.
        data_dir: The folder of the datasets.
        allow_sample: Whether to use the small sample where a dataset is missing.
        torchvision_dir: A folder with the same datasets, uncompressed, for torchvision.
        reference: Whether to run PyTorch's MNIST example as well.
        limit_batches: Stop every loop after so many batches; None takes all.
        processes: Numbers of processes to compare with one; each divides `systems.BATCH_SIZE`.
    """

    repeats: int
    systems: list[str]
    data_dir: Path
    allow_sample: bool
    torchvision_dir: Path
    reference: bool
    limit_batches: int | None
    processes: list[int]

    @property
    def of_data_module(self) -> dict[str, Any]:
        """The arguments of a worker that reads the data through our data module."""
        return {"data_dir": str(self.data_dir), "allow_sample": self.allow_sample, "limit_batches": self.limit_batches}

    @property
    def of_torchvision(self) -> dict[str, Any]:
        """The arguments of a worker that reads the data through torchvision."""
        return {"folder": str(self.torchvision_dir), "limit_batches": self.limit_batches}
