"""The model of an ONNX file, computed by ONNX Runtime, without torch."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.checkpoint import onnx
from lightning_cnn.checkpoint.reading import read_bytes, refusing, require_valid
from lightning_cnn.checkpoint.session import Session
from lightning_cnn.errors import UserError
from lightning_cnn.predict.framing import read_framing
from lightning_cnn.threads import num_threads


class OnnxModel:
    """The network of an ONNX file, as a `model.Model`, whose attributes it has.

    A file of another program will do as well, if it maps uint8 `images` `(B, C, H, W)` to `logits` and
    `probabilities`; its classes are numbered, and images are framed like those of MNIST, or of a folder if they have
    another shape.

    Args:
        path: An ONNX file, of `export` for example.
        threads: Threads of an operator; None for as many as there are free cores.

    Attributes:
        description: What the file says about the checkpoint it was made from; None for one of another program.

    Raises:
        UserError: If the file cannot be used.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        data = read_bytes(path)
        recorded: list[str] | None = None
        self.description: checkpoints.Description | None = None
        with refusing(path):
            if (metadata := onnx.load(data)) is not None:
                content = onnx.as_content(metadata)
                require_valid(content)
                self.description = content[checkpoints.KEY]
                recorded = content[checkpoints.KEY]["class_names"]
        self._session = Session(data, path, threads or num_threads()[0])
        num_classes = self._session.num_classes
        self.class_names = recorded or [str(label) for label in range(num_classes)]
        if len(self.class_names) != num_classes:
            raise UserError(
                f"{path} has {len(self.class_names):,} class names, but its network has {num_classes:,} classes; "
                "use another file"
            )
        self.image_shape = self._session.image_shape
        framing = None if self.description is None else self.description["framing"]
        self.framing = read_framing(framing, self.image_shape, path)
        self.label_smoothing = 0.0 if self.description is None else checkpoints.label_smoothing(self.description)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probability of each class, `(N, num_classes)`, for images `(N, C, H, W)` with values 0 to 255."""
        return self._session(images)[1]
