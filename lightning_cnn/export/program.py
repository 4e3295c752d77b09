"""What is exported: one program from the pixels of images to the probabilities of classes."""

import torch
from torch import Tensor, nn

from lightning_cnn.classifiers import ImageClassifier

#: Images with which the program is traced; a single one could make the number of images a constant.
_TRACED = 2


class Program(nn.Module):
    """Maps images as they are, uint8 `(B, C, H, W)`, to logits and probabilities, both float32 `(B, num_classes)`.

    Args:
        classifier: In eval mode; its preprocessing is part of the program.

    Example:
        >>> from lightning_cnn.classifiers import MLPClassifier
        >>> program = Program(MLPClassifier().eval())
        >>> logits, probabilities = program(torch.zeros(3, 1, 28, 28, dtype=torch.uint8))
        >>> logits.shape, [round(total, 5) for total in probabilities.sum(dim=1).tolist()]
        (torch.Size([3, 10]), [1.0, 1.0, 1.0])
    """

    def __init__(self, classifier: ImageClassifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities."""
        logits = self.classifier(images)
        return logits, logits.softmax(dim=1)

    def example(self) -> Tensor:
        """Return images to trace the program with: not all pixels are equal, so that no layer divides by 0."""
        pixels = torch.zeros(_TRACED, *self.classifier.image_shape, dtype=torch.uint8)
        return pixels.random_(256, generator=torch.Generator().manual_seed(0))
