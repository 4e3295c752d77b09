"""The formats of exported files: how each is written, and loaded again by its own runtime."""

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch

from lightning_cnn.checkpoint import onnx
from lightning_cnn.checkpoint.description import KEY
from lightning_cnn.checkpoint.session import Session
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.export.agreement import Compute, computed_by
from lightning_cnn.export.onnx import to_onnx, traced


class Format(ABC):
    """A format that holds a whole program, preprocessing included, and metadata: a classifier in it."""

    @abstractmethod
    def write(self, path: Path, metadata: dict[str, Any]) -> None:
        """Write the file."""

    @abstractmethod
    def load(self, path: Path) -> Compute:
        """Return the program of a file, computed by the runtime of its format."""


class Onnx(Format):
    """ONNX, computed by ONNX Runtime.

    Args:
        model: The file without metadata, from `onnx.to_onnx`.
        num_threads: Threads of the runtime.
    """

    def __init__(self, model: bytes, num_threads: int = 1) -> None:
        self.model = model
        self.num_threads = num_threads

    @classmethod
    def of(cls, classifier: ImageClassifier) -> "Onnx":
        """Return a classifier in this format; raises `ExportError` if that is not possible."""
        return cls(to_onnx(classifier), torch.get_num_threads())

    def write(self, path: Path, metadata: dict[str, Any]) -> None:
        """Write the file."""
        path.write_bytes(onnx.dump(self.model, metadata))

    def load(self, path: Path) -> Compute:
        """Return the program of a file."""
        data = path.read_bytes()
        onnx.load(data)
        session = Session(data, path, self.num_threads)
        return lambda images: session(images)[1]


class TorchExport(Format):
    """`torch.export`'s format, computed by torch; its metadata are JSON in the extra file `lightning_cnn`."""

    def __init__(self, classifier: ImageClassifier) -> None:
        self._program = traced(classifier)

    def write(self, path: Path, metadata: dict[str, Any]) -> None:
        """Write the file."""
        with path.open("wb") as file:  # given a name, torch expects the suffix
            torch.export.save(self._program, file, extra_files={KEY: json.dumps(metadata, allow_nan=False)})

    def load(self, path: Path) -> Compute:
        """Return the program of a file."""
        with path.open("rb") as file:
            compute = computed_by(torch.export.load(file).module())
        return lambda images: compute(images)[1]
