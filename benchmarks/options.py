"""The options of the benchmark, and the datasets that they select."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_cnn.data import idx, sources
from lightning_cnn.data.facts import FILES
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST


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
        limit_batches: Batches per loop; None for all.
        processes: Numbers of processes to compare with one; each divides `systems.BATCH_SIZE`.
        models: Checkpoints and exported files to serve; none trains one.
        seeds: Seeds of each config whose time to accuracy is measured, from 0 on, at least 1.
    """

    repeats: int
    systems: list[str]
    data_dir: Path
    allow_sample: bool
    torchvision_dir: Path
    reference: bool
    limit_batches: int | None
    processes: list[int]
    models: list[str] = field(default_factory=list)
    seeds: int = 10

    @property
    def of_data_module(self) -> dict[str, Any]:
        """The arguments of a worker that reads the data through our data module."""
        return {"data_dir": str(self.data_dir), "allow_sample": self.allow_sample, "limit_batches": self.limit_batches}

    @property
    def of_torchvision(self) -> dict[str, Any]:
        """The arguments of a worker that reads the data through torchvision."""
        return {"folder": str(self.torchvision_dir), "limit_batches": self.limit_batches}


def write_uncompressed(options: Options) -> None:
    """Verify both datasets, fetch them if they are missing, and write them uncompressed into `torchvision_dir`.

    Raises:
        DataError: If a dataset is not available.
    """
    for facts in (MNIST, FASHION_MNIST):
        raw = sources.load(facts, options.data_dir, options.allow_sample)
        arrays = (raw.train_images, raw.train_labels, raw.test_images, raw.test_labels)
        folder = options.torchvision_dir / facts.folder / "raw"
        folder.mkdir(parents=True)
        for file, array in zip(FILES, arrays, strict=True):
            (folder / file).write_bytes(idx.encode(array))
