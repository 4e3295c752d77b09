"""Whether an exported file predicts what its checkpoint predicts, for every image of a dataset."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_cnn.errors import UserError

#: Maps images, uint8 `(N, C, H, W)`, to probabilities `(N, num_classes)`.
Compute = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
#: The largest difference of a probability that is rounding.
TOLERANCE = 1e-5


class DisagreementError(UserError):
    """An exported file predicts something else than its checkpoint; the command itself was right."""

    exit_status = 1


@dataclass(frozen=True)
class Agreement:
    """How far a file agrees with its checkpoint.

    Attributes:
        dataset: Name of the dataset.
        part: Which of its images: `test` or `val`.
        images: Their number.
        equal_classes: For how many of them the predicted classes are equal.
        largest_difference: The largest difference of a probability of a class.
        accuracy: Share of the images that the file classifies correctly.
        checkpoint_accuracy: The same of the checkpoint, in float32.
    """

    dataset: str
    part: str
    images: int
    equal_classes: int
    largest_difference: float
    accuracy: float
    checkpoint_accuracy: float

    def __str__(self) -> str:
        return (
            f"{self.equal_classes:,} of {self.images:,} predicted classes equal, largest difference of a probability "
            f"{self.largest_difference:.0e} ({self.images_name})"
        )

    @property
    def images_name(self) -> str:
        """Which images were compared, in words."""
        return f"{'test' if self.part == 'test' else 'validation'} images of {self.dataset}"

    def require_equal(self) -> None:
        """Refuse a file that predicts something else.

        Raises:
            DisagreementError: If a class is another one, or a probability differs by more than rounding.
        """
        if self.equal_classes < self.images or not self.largest_difference <= TOLERANCE:
            raise DisagreementError(
                f"the file would not predict what the checkpoint does: {self}; it is not kept. Report it with the "
                "versions of torch, onnxscript and onnxruntime; `export --format safetensors` keeps the weights as "
                "they are"
            )


def compare(
    checkpoint: Compute, exported: Compute, batches: Iterable[tuple[Tensor, Tensor]], dataset: str, part: str
) -> Agreement:
    """Return how far a file agrees with its checkpoint on images.

    Args:
        checkpoint: Computes with the checkpoint.
        exported: Computes with the file.
        batches: Images, uint8 `(B, C, H, W)`, and their classes, `(B,)`.
        dataset: Name of the dataset.
        part: Which of its images these are.
    """
    images = equal = hits = checkpoint_hits = 0
    largest = 0.0
    for pixels, targets in batches:
        arrays, labels = pixels.cpu().numpy(), targets.cpu().numpy()
        expected, found = checkpoint(arrays), exported(arrays)
        classes, found_classes = expected.argmax(axis=1), found.argmax(axis=1)
        images += len(labels)
        equal += int((classes == found_classes).sum())
        # NaN stays: it is a difference of its own.
        largest = float(np.maximum(largest, np.abs(expected - found).max()))
        hits += int((found_classes == labels).sum())
        checkpoint_hits += int((classes == labels).sum())
    return Agreement(dataset, part, images, equal, largest, hits / images, checkpoint_hits / images)


def computed_by(network: Callable[[Tensor], Tensor]) -> Compute:
    """Return a network of torch that maps images to probabilities as a function of arrays."""

    def compute(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            probabilities: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
        return probabilities

    return compute
