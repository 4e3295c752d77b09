"""FastCNN: the accuracy of a small CNN in little time on a CPU.

A small CNN spends most of its time on its first feature maps. Here they are pooled by 4 at once, so the later layers
have 36 positions instead of 576 (of 28×28 pixels) and more channels. With batch normalisation and a high learning rate,
one or two epochs are enough, as in fast training on CIFAR-10 (Page, "How to Train Your ResNet", 2018; Jordan, "94% on
CIFAR-10 in 3.29 Seconds on a Single GPU", arXiv:2404.00498).
"""

from torch import Tensor, nn

from lightning_cnn.networks.sizes import IMAGE_SIZE, checked_sides


class FastCNN(nn.Module):
    """Two convolutions with one wide pooling, and two fully connected layers.

    Args:
        num_classes: Number of logits, at least 1.
        channels: Feature maps of the second convolution, at least 1.
        hidden: Units of the hidden layer, at least 1.
        in_channels: Channels of the images, at least 1: 1 for grey, 3 for colour.
        image_size: Side of square images in pixels, or (height, width); at least 16.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        num_classes: int = 10,
        channels: int = 64,
        hidden: int = 64,
        in_channels: int = 1,
        image_size: int | tuple[int, int] = IMAGE_SIZE,
    ) -> None:
        if channels < 1 or hidden < 1:
            raise ValueError(f"channels and hidden must be at least 1, got {channels} and {hidden}")
        super().__init__()
        height, width = checked_sides(self, num_classes, in_channels, image_size, smallest=16)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 16, kernel_size=5, bias=False),  # (B, 16, H-4, W-4)
            nn.MaxPool2d(kernel_size=4),  # (B, 16, (H-4)/4, (W-4)/4), rounded down
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, channels, kernel_size=3, bias=False),  # (B, channels, (H-12)/4, (W-12)/4)
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * ((height - 12) // 4) * ((width - 12) // 4), hidden),  # (B, hidden)
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),  # (B, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, C, H, W)`."""
        logits: Tensor = self.classifier(self.features(images))
        return logits
