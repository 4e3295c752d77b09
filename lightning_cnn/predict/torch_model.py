"""The model of a checkpoint, computed by torch."""

from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.config.loading import load_classifier
from lightning_cnn.errors import UserError
from lightning_cnn.predict.framing import read_framing


class TorchModel:
    """The classifier of a checkpoint, as a `model.Model`, whose attributes it has.

    Args:
        path: A checkpoint of `fit`, or a safetensors file of `export`.
        class_path: Class path of a network or classifier of the user's own; None for what the checkpoint names.

    Attributes:
        classifier: The `ImageClassifier`, in float32 and in eval mode.

    Raises:
        UserError: If the checkpoint cannot be used.
    """

    def __init__(self, path: Path, class_path: str | None = None) -> None:
        content = checkpoints.read(path)
        description: checkpoints.Description = content[checkpoints.KEY]
        self.classifier = load_classifier(content, class_path)
        num_classes = self.classifier.num_classes
        self.class_names = description.get("class_names") or [str(label) for label in range(num_classes)]
        if len(self.class_names) != num_classes:
            raise UserError(
                f"{path} has {len(self.class_names)} class names, but its model has {num_classes} classes; "
                "use another checkpoint"
            )
        self.image_shape = cast(tuple[int, int, int], tuple(self.classifier.image_shape))
        self.framing = read_framing(description.get("framing"), self.image_shape, path)
        self.label_smoothing = checkpoints.label_smoothing(description)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probability of each class, `(N, num_classes)`, for images `(N, C, H, W)` with values 0 to 255."""
        with torch.inference_mode():
            result: NDArray[np.float32] = self.classifier(torch.from_numpy(images)).softmax(dim=1).numpy()
        return result
