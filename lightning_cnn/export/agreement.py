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
#: Maps images likewise to logits and probabilities, both `(N, num_classes)`.
Reference = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]
#: The largest difference of a probability that is rounding, unless logits are so large that their own is more.
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
        largest_logit: The largest magnitude of its logits.
    """

    dataset: str
    part: str
    images: int
    equal_classes: int
    largest_difference: float
    accuracy: float
    checkpoint_accuracy: float
    largest_logit: float = 0.0

    @property
    def tolerance(self) -> float:
        """The largest difference of a probability that is rounding.

        No slope of a softmax is above 1/4, so two logits that differ by the spacing of float32 at their magnitude each
        change a probability by up to half of it.
        """
        return max(TOLERANCE, float(np.finfo(np.float32).eps) * self.largest_logit / 2)

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
        if self.equal_classes < self.images or not self.largest_difference <= self.tolerance:
            raise DisagreementError(
                f"the file would not predict what the checkpoint does: {self}; it is not kept. Report it with the "
                "versions of torch, onnxscript and onnxruntime; `export --format safetensors` keeps the weights as "
                "they are"
            )


def compare(
    checkpoint: Reference, exported: Compute, batches: Iterable[tuple[Tensor, Tensor]], dataset: str, part: str
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
    largest = largest_logit = 0.0
    for pixels, targets in batches:
        arrays, labels = pixels.cpu().numpy(), targets.cpu().numpy()
        (logits, expected), found = checkpoint(arrays), exported(arrays)
        classes, found_classes = expected.argmax(axis=1), found.argmax(axis=1)
        images += len(labels)
        equal += int((classes == found_classes).sum())
        # NaN stays: it is a difference of its own.
        largest = float(np.maximum(largest, np.abs(expected - found).max()))
        largest_logit = max(largest_logit, float(np.abs(logits).max()))
        hits += int((found_classes == labels).sum())
        checkpoint_hits += int((classes == labels).sum())
    return Agreement(dataset, part, images, equal, largest, hits / images, checkpoint_hits / images, largest_logit)


def computed_by(network: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Reference:
    """Return a network of torch that maps images to logits and probabilities as a function of arrays."""

    def compute(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.inference_mode():
            logits, probabilities = network(torch.from_numpy(images))
        return logits.numpy(), probabilities.numpy()

    return compute
