"""The network of an ONNX file as a classifier, so that `test` and `validate` evaluate it like a checkpoint."""

from pathlib import Path

import torch
from torch import Tensor, nn

from lightning_cnn.checkpoint.reading import read_bytes
from lightning_cnn.checkpoint.session import Session
from lightning_cnn.classifiers.base import ImageClassifier
from lightning_cnn.classifiers.metrics import MetricCallable
from lightning_cnn.errors import UserError
from lightning_cnn.threads import num_threads


class ExportedClassifier(ImageClassifier):
    """An ONNX file, computed by ONNX Runtime on the CPU; it cannot be trained.

    Args:
        path: The file, which `checkpoint.read` has checked.
        loss: As for `ImageClassifier`.
        metrics: Likewise.
        num_classes: Likewise.
        in_channels: Likewise.
        image_size: Likewise.

    Raises:
        UserError: If the network has other images or classes, or cannot be used.
    """

    def __init__(
        self,
        path: str,
        loss: nn.Module | None = None,
        metrics: dict[str, MetricCallable] | None = None,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int | tuple[int, int] = 28,
    ) -> None:
        super().__init__(
            nn.Identity(),
            num_classes=num_classes,
            in_channels=in_channels,
            image_size=image_size,
            loss=loss,
            metrics=metrics,
        )
        file = Path(path)
        self._compute = Session(read_bytes(file), file, num_threads()[0])
        found, expected = (self._compute.image_shape, self._compute.num_classes), (self.image_shape, num_classes)
        if found != expected:
            raise UserError(
                f"{path} is for images {found[0]} of {found[1]} classes, but the data has {expected[0]} of "
                f"{expected[1]}; choose the data that it was trained on, or data of the same kind"
            )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images, uint8 `(B, C, H, W)`; the file has its own preprocessing."""
        logits, _ = self._compute(images.cpu().numpy())
        return torch.from_numpy(logits).to(images.device)
