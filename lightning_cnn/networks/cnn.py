"""Two convolutions and a narrow hidden layer: a quarter of `SimpleCNN`'s parameters, enough for digits.

The architecture is LeNet-5's (LeCun et al., Proc. IEEE 86(11), 1998) with 3×3 kernels, padding and ReLU.
Pooling before the ReLU is explained in `networks/__init__.py`.
"""

from torch import Tensor, nn

from lightning_cnn.networks.sizes import checked_sides


class CNN(nn.Module):
    """Two padded 3×3 convolutions and two fully connected layers; 421,642 parameters by default.

    Args:
        num_classes: Number of logits, at least 1.
        in_channels: Channels of the images, at least 1: 1 for grey, 3 for colour.
        image_size: Side of square images in pixels, or (height, width); at least 4.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int | tuple[int, int] = 28) -> None:
        super().__init__()
        height, width = checked_sides(self, num_classes, in_channels, image_size, smallest=4)
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 32, kernel_size=3, stride=1, padding=1),
            nn.MaxPool2d(2),  # (B, 32, H/2, W/2), rounded down as all that follow
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=3, stride=1, padding=1),
            nn.MaxPool2d(2),  # (B, 64, H/4, W/4)
            nn.ReLU(),
            nn.Flatten(),  # (B, 3136) for 28×28 pixels
            nn.Linear(64 * (height // 4) * (width // 4), 128),
            nn.ReLU(),
            nn.Linear(128, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, C, H, W)`."""
        logits: Tensor = self.layers(images)
        return logits
