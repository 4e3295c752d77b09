"""TinyCNN: below 10,000 parameters for MNIST.

Small convolutions without padding and a mean of the last feature maps instead of a large linear layer (Lin, Chen and
Yan, "Network In Network", arXiv:1312.4400). Batch normalisation after every convolution makes the high learning rate
possible with which so small a network is trained.
"""

from torch import Tensor, nn

from lightning_cnn.networks.sizes import IMAGE_SIZE, checked_sides


def _convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    """A 3×3 convolution without padding, which takes two rows and two columns away."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class TinyCNN(nn.Module):
    """Six convolutions and global mean pooling: 9,914 parameters for ten classes of grey images of any size.

    Args:
        num_classes: Number of logits, at least 1.
        in_channels: Channels of the images, at least 1: 1 for grey, 3 for colour.
        image_size: Side of the images in pixels, or (height, width), at least 22; the weights do not depend on it.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> sum(weights.numel() for weights in TinyCNN().parameters())
        9914
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int | tuple[int, int] = IMAGE_SIZE,
    ) -> None:
        super().__init__()
        checked_sides(self, num_classes, in_channels, image_size, smallest=22)
        self.features = nn.Sequential(  # sizes for 28×28
            _convolution(in_channels, 8),  # (B, 8, 26, 26)
            _convolution(8, 12),  # (B, 12, 24, 24)
            nn.MaxPool2d(2),  # (B, 12, 12, 12)
            _convolution(12, 16),  # (B, 16, 10, 10)
            _convolution(16, 16),  # (B, 16, 8, 8)
            _convolution(16, 16),  # (B, 16, 6, 6)
            _convolution(16, 16),  # (B, 16, 4, 4)
        )
        self.classifier = nn.Linear(16, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, in_channels, H, W)`, floating point, normalised."""
        logits: Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits
