"""Two convolutions and a wide hidden layer: the usual first network for Fashion-MNIST.

The architecture is LeNet-5's (LeCun et al., Proc. IEEE 86(11), 1998) with 3×3 kernels, padding and ReLU.
Pooling before the ReLU is explained in `networks/__init__.py`.
"""

from torch import Tensor, nn


class SimpleCNN(nn.Module):
    """Two padded 3×3 convolutions and two fully connected layers; 1,630,090 parameters for ten classes.

    Args:
        num_classes: Number of logits.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, kernel_size=3, padding=1),
            nn.MaxPool2d(2),  # (B, 32, 14, 14)
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=3, padding=1),
            nn.MaxPool2d(2),  # (B, 64, 7, 7)
            nn.ReLU(),
            nn.Flatten(),  # (B, 3136)
            nn.Linear(64 * 7 * 7, 512),
            nn.ReLU(),
            nn.Linear(512, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, 1, 28, 28)`."""
        logits: Tensor = self.layers(images)
        return logits
