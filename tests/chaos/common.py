"""What all faults share: their outcome, commands in this process on tiny datasets, and the content of checkpoints."""

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from idx import write_idx_dataset
from PIL import Image

from lightning_cnn.cli import main
from lightning_cnn.data import FashionMNISTDataModule, MNISTDataModule
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.files import shipped_config

#: The shipped data modules with their datasets.
DATASETS = ((MNISTDataModule, MNIST), (FashionMNISTDataModule, FASHION_MNIST))


@dataclass(frozen=True)
class Outcome:
    """The row of a fault in the table.

    Attributes:
        fault: What was done.
        tries: How often.
        lost: One line for each try with a wrong result: what exactly was done, and the result.
    """

    fault: str
    tries: int
    lost: list[str] = field(default_factory=list)

    @property
    def survived(self) -> int:
        """The number of tries with the right result."""
        return self.tries - len(self.lost)


def write_photos(root: Path, images: int = 222) -> None:
    """Write a folder of class folders with small images in colour: 150 to train on, 50 and 22 for the rest."""
    rng = np.random.default_rng(0)
    for number in range(images):
        path = root / f"class {number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 128, (28, 32, 3), np.uint8)
        pixels[..., number % 3] += 100
        Image.fromarray(pixels).save(path)


@contextmanager
def tiny_datasets(folder: Path) -> Iterator[Path]:
    """Write small datasets into a folder, the data folder of the block, and make the data modules expect them."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict("os.environ", LIGHTNING_CNN_DATA_DIR=str(folder)))
        for module, facts in DATASETS:
            stack.enter_context(mock.patch.object(module, "facts", write_idx_dataset(folder, facts)))
        yield folder


def command(*argv: object) -> tuple[int, str]:
    """Run a command in this process, and return its exit status and stderr."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as errors:
        status = main([str(argument) for argument in argv])
    return status, errors.getvalue()


def train(folder: Path, config: str, *flags: str) -> Path:
    """Train a shipped config for one epoch on the datasets in `folder / "data"`, and return the run folder."""
    fixed = "--trainer.max_epochs 1 --trainer.precision 32-true --trainer.accelerator cpu --data.val_size 50"
    without_plots = "--plots.enabled false --dashboard.enabled false --trainer.enable_model_summary false"
    places = ("--data.data_dir", folder / "data", "--trainer.default_root_dir", folder / "logs")
    settings = (*fixed.split(), *without_plots.split(), *places, *flags)
    status, errors = command("fit", "--config", shipped_config(config), *settings)
    if status != 0:
        raise RuntimeError(errors)
    (run,) = (folder / "logs").glob("*/version_0")
    return run


def saved(content: dict[str, Any]) -> bytes:
    """Return the bytes of a checkpoint, as `fit` writes it."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def differences(first: Any, second: Any, place: str = "") -> Iterator[str]:
    """Yield the places in which the contents of two checkpoints differ by type or by any bit."""
    if type(first) is not type(second):
        yield place
    elif isinstance(first, dict):
        if list(first) != list(second):
            yield f"{place}/keys"
        for key in first.keys() & second.keys():
            yield from differences(first[key], second[key], f"{place}/{key}")
    elif isinstance(first, list | tuple):
        if len(first) != len(second):
            yield place
        for index, pair in enumerate(zip(first, second, strict=False)):
            yield from differences(*pair, f"{place}/{index}")
    elif isinstance(first, torch.Tensor):
        if first.dtype != second.dtype or not torch.equal(first, second):
            yield place
    elif first != second:
        yield place
