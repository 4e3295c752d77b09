"""The formats of exported files: how each is written, and loaded again by its own runtime."""

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch

from lightning_cnn.checkpoint import onnx
from lightning_cnn.checkpoint import safetensors as shared
from lightning_cnn.checkpoint.description import KEY
from lightning_cnn.checkpoint.session import Session
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.errors import UserError
from lightning_cnn.export.agreement import Compute, DisagreementError, computed_by
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


def write_safetensors(content: dict[str, Any], path: Path) -> None:
    """Write weights and description of a checkpoint, and compare them when they are read again.

    Raises:
        DisagreementError: If a weight is another one.
        UserError: If the hyperparameters are not plain values.
    """
    try:
        path.write_bytes(shared.dump(content))
    except TypeError as error:
        raise UserError(f"hyperparameters of its model are not plain values ({error})") from error
    _require_equal(content["state_dict"], shared.load(path.read_bytes())["state_dict"])


def write_state_dict(content: dict[str, Any], path: Path) -> None:
    """Write the weights of the network alone, as `callbacks.SaveWeights` does, and compare them likewise.

    Raises:
        DisagreementError: If a weight is another one.
    """
    prefix = "network."
    weights = {n.removeprefix(prefix): w.contiguous() for n, w in content["state_dict"].items() if n.startswith(prefix)}
    torch.save(weights, path)
    _require_equal(weights, torch.load(path, weights_only=True))


def _require_equal(written: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> None:
    different = written.keys() ^ found.keys() or {n for n, w in written.items() if not torch.equal(w, found[n])}
    if different:
        raise DisagreementError(f"the weights {sorted(different)[:3]} are others when they are read again")
