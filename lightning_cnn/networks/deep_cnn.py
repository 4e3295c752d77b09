"""Four convolutions in two blocks, each of which doubles the channels twice and then halves height and width.

Stacks of 3×3 convolutions between poolings after Simonyan and Zisserman, "Very deep convolutional networks for
large-scale image recognition", ICLR 2015 (arXiv:1409.1556), here without padding.
Pooling before the ReLU is explained in `networks/__init__.py`.
"""

from torch import Tensor, nn


def _block(in_channels: int, mid_channels: int, out_channels: int) -> nn.Sequential:
    """Two unpadded 3×3 convolutions, each two pixels less in height and width, and a pooling that halves both."""
    return nn.Sequential(
        nn.Conv2d(in_channels, mid_channels, kernel_size=3),
        nn.ReLU(),
        nn.Conv2d(mid_channels, out_channels, kernel_size=3),
        nn.MaxPool2d(2),
        nn.ReLU(),
    )


class DeepCNN(nn.Module):
    """Four unpadded 3×3 convolutions and two fully connected layers; 593,200 parameters for ten classes.

    Args:
        num_classes: Number of logits.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _block(1, 32, 64),  # (B, 64, 12, 12)
            _block(64, 128, 256),  # (B, 256, 4, 4)
            nn.Flatten(),  # (B, 4096)
            nn.Linear(256 * 4 * 4, 50),
            nn.ReLU(),
            nn.Linear(50, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, 1, 28, 28)`."""
        logits: Tensor = self.layers(images)
        return logits
