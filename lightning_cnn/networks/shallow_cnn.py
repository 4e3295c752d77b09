"""The smallest convolutional network: one convolution, one hidden layer.

Convolution, pooling and a fully connected head as in LeCun et al., "Gradient-based learning applied to document
recognition", Proc. IEEE 86(11), 1998; ReLU instead of sigmoids after Nair and Hinton, ICML 2010.
Pooling before the ReLU is explained in `networks/__init__.py`.
"""

from torch import Tensor, nn


class ShallowCNN(nn.Module):
    """One 3×3 convolution and two fully connected layers; 402,986 parameters for ten classes.

    Args:
        num_classes: Number of logits.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1),  # (B, 16, 28, 28)
            nn.MaxPool2d(2),  # (B, 16, 14, 14)
            nn.ReLU(),
            nn.Flatten(),  # (B, 3136)
            nn.Linear(16 * 14 * 14, 128),
            nn.ReLU(),
            nn.Linear(128, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, 1, 28, 28)`."""
        logits: Tensor = self.layers(images)
        return logits
