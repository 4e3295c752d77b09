"""A trained model that predicts, whatever file its weights are in.

`open_model` is the one place where a file becomes a model: `pipeline`, and all that answers with predictions, know
`Model` only. A model is opened with the libraries that its file needs, and no others.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lightning_cnn.checkpoint import onnx
from lightning_cnn.data.facts import Framing
from lightning_cnn.data.resize import Resize
from lightning_cnn.errors import UserError, install_extra
from lightning_cnn.startup import filter_warnings, quick_imports


class Model(Protocol):
    """A model with its weights.

    Attributes:
        class_names: Names of the classes, in the order of the probabilities.
        image_shape: Channels, height and width of the images.
        framing: How the training images were made from larger ones.
        label_smoothing: That of the training, 0 to 1, which lowers every confidence.
    """

    class_names: list[str]
    image_shape: tuple[int, int, int]
    framing: Framing | Resize
    label_smoothing: float

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probability of each class, `(N, num_classes)`, for images `(N, C, H, W)` with values 0 to 255."""


def open_model(path: Path, class_path: str | None = None, threads: int | None = None) -> Model:
    """Open the model in a file.

    Args:
        path: A checkpoint of `fit`, or a safetensors or ONNX file, of `export` for example.
        class_path: Class path of a network or classifier of the user's own; None for what the file names.
        threads: Threads for an ONNX file, None for as many as there are free cores; torch's are set for the process.

    Raises:
        UserError: If the file cannot be used.
    """
    if onnx.is_onnx_file(path):
        if class_path is not None:
            raise UserError(f"--model {class_path} is for checkpoints, and {path} has its network in it; leave it out")
        try:
            from lightning_cnn.predict.onnx_model import OnnxModel
        except ModuleNotFoundError as error:
            raise UserError(f"{path} is computed by {error.name}; {install_extra('export')}") from error
        return OnnxModel(path, threads)
    filter_warnings()  # also of imports
    with quick_imports():
        from lightning_cnn.predict.torch_model import TorchModel
    filter_warnings()  # libraries add filters of their own
    return TorchModel(path, class_path)
