"""Four convolutions in two blocks, each of which doubles the channels twice and then halves height and width.

Stacks of 3×3 convolutions between poolings after Simonyan and Zisserman, "Very deep convolutional networks for
large-scale image recognition", ICLR 2015 (arXiv:1409.1556), here without padding.
Pooling before the ReLU is explained in `networks/__init__.py`.
"""

from torch import Tensor, nn

from lightning_cnn.networks.sizes import checked_sides


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
    """Four unpadded 3×3 convolutions and two fully connected layers; 593,200 parameters by default.

    Args:
        num_classes: Number of logits, at least 1.
        in_channels: Channels of the images, at least 1: 1 for grey, 3 for colour.
        image_size: Side of square images in pixels, or (height, width); at least 16.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int | tuple[int, int] = 28) -> None:
        super().__init__()
        height, width = checked_sides(self, num_classes, in_channels, image_size, smallest=16)
        self.layers = nn.Sequential(
            _block(in_channels, 32, 64),  # (B, 64, (H-4)/2, (W-4)/2), rounded down as all that follow
            _block(64, 128, 256),  # (B, 256, (H-12)/4, (W-12)/4)
            nn.Flatten(),  # (B, 4096) for 28×28 pixels
            nn.Linear(256 * ((height - 12) // 4) * ((width - 12) // 4), 50),
            nn.ReLU(),
            nn.Linear(50, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, C, H, W)`."""
        logits: Tensor = self.layers(images)
        return logits
