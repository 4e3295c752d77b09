"""The smallest convolutional network: one convolution, one hidden layer.

Convolution, pooling and a fully connected head as in LeCun et al., "Gradient-based learning applied to document
recognition", Proc. IEEE 86(11), 1998; ReLU instead of sigmoids after Nair and Hinton, ICML 2010.
Pooling before the ReLU is explained in `networks/__init__.py`.
"""

from torch import Tensor, nn

from lightning_cnn.networks.sizes import checked_sides


class ShallowCNN(nn.Module):
    """One 3×3 convolution and two fully connected layers; 402,986 parameters by default.

    Args:
        num_classes: Number of logits, at least 1.
        in_channels: Channels of the images, at least 1: 1 for grey, 3 for colour.
        image_size: Side of square images in pixels, or (height, width); at least 2.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int | tuple[int, int] = 28) -> None:
        super().__init__()
        height, width = checked_sides(self, num_classes, in_channels, image_size, smallest=2)
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 16, kernel_size=3, padding=1),  # (B, 16, H, W)
            nn.MaxPool2d(2),  # (B, 16, H/2, W/2), rounded down
            nn.ReLU(),
            nn.Flatten(),  # (B, 3136) for 28×28 pixels
            nn.Linear(16 * (height // 2) * (width // 2), 128),
            nn.ReLU(),
            nn.Linear(128, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, C, H, W)`."""
        logits: Tensor = self.layers(images)
        return logits
