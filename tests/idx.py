"""Tiny datasets in MNIST's format.

The bytes are encoded here, independently of `lightning_cnn.data.idx`, which is tested against them.
"""

import dataclasses
import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_cnn.data.facts import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, DatasetFacts


def write_idx_dataset(
    data_dir: Path, facts: DatasetFacts, n_train: int = 200, n_test: int = 100, seed: int = 0, compress: bool = False
) -> DatasetFacts:
    """Write a balanced, learnable dataset in torchvision's layout.

    Returns:
        The facts with the checksums of these files, and with no source but the data folder.
    """
    folder = data_dir / facts.folder / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    contents = idx_files(n_train, n_test, seed, n_classes=len(facts.classes))
    for file, content in contents.items():
        if compress:
            (folder / f"{file}.gz").write_bytes(gzip.compress(content, compresslevel=1, mtime=0))
        else:
            (folder / file).write_bytes(content)
    sha256 = {file: hashlib.sha256(content).hexdigest() for file, content in contents.items()}
    return dataclasses.replace(facts, sha256=sha256, mirrors=(), system_folder=None, debian_package=None)


def idx_files(n_train: int = 200, n_test: int = 100, seed: int = 0, n_classes: int = 10) -> dict[str, bytes]:
    """Return the raw content of the four files."""
    rng = np.random.default_rng(seed)
    train_images, train_labels = images_and_labels(n_train, n_classes, rng)
    test_images, test_labels = images_and_labels(n_test, n_classes, rng)
    return {
        TRAIN_IMAGES: idx_bytes(train_images),
        TRAIN_LABELS: idx_bytes(train_labels),
        TEST_IMAGES: idx_bytes(test_images),
        TEST_LABELS: idx_bytes(test_labels),
    }


def images_and_labels(n: int, n_classes: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return n images with their labels: a bright square on noise, its position determined by the class."""
    labels = rng.permutation(np.arange(n) % n_classes).astype(np.uint8)
    images = rng.integers(0, 96, size=(n, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 4)
        image[2 + 8 * row : 8 + 8 * row, 1 + 7 * column : 6 + 7 * column] += 128
    return images, labels


def idx_bytes(array: NDArray[np.uint8], magic: int | None = None) -> bytes:
    """Return the array as an IDX file, with another magic number if one is given."""
    magic = 0x0800 + array.ndim if magic is None else magic
    return struct.pack(">I", magic) + b"".join(struct.pack(">I", n) for n in array.shape) + array.tobytes()
