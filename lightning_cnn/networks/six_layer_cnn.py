"""SixLayerCNN: high accuracy on MNIST with few parameters, 10,000 to 200,000.

Small convolutions without padding (An, Lee, Park, Yang and So, "An Ensemble of Simple Convolutional Neural Network
Models for MNIST Digit Recognition", arXiv:2008.10400), and the mean of the last feature maps in place of a large linear
layer (Lin, Chen and Yan, "Network In Network", arXiv:1312.4400).
"""

from torch import Tensor, nn

from lightning_cnn.networks.sizes import IMAGE_SIZE, checked_sides

#: How many convolutions there are, and how many of them come before the pooling.
_LAYERS, _BEFORE_POOLING = 6, 2


class _Convolution(nn.Sequential):
    """A 3×3 convolution without padding, after which images have two rows and two columns less."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )


class SixLayerCNN(nn.Module):
    """Six convolutions and global mean pooling, for images of any size.

    Args:
        num_classes: Number of logits, at least 1.
        in_channels: Channels of the images, at least 1: 1 for grey, 3 for colour.
        image_size: Side of the images in pixels, or (height, width), at least 22; the weights do not depend on it.
        channels: Feature maps of the six convolutions, each at least 1.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> sum(weights.numel() for weights in SixLayerCNN().parameters())
        9914
        >>> sum(weights.numel() for weights in SixLayerCNN(channels=(16, 32, 64, 64, 80, 80)).parameters())
        165210
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int | tuple[int, int] = IMAGE_SIZE,
        channels: tuple[int, int, int, int, int, int] = (8, 12, 16, 16, 16, 16),
    ) -> None:
        super().__init__()
        checked_sides(self, num_classes, in_channels, image_size, smallest=22)
        if len(channels) != _LAYERS or min(channels) < 1:
            raise ValueError(f"channels must be {_LAYERS} numbers of at least 1, got {channels}")
        layers = [_Convolution(*pair) for pair in zip((in_channels, *channels), channels, strict=False)]
        self.features = nn.Sequential(  # sizes for 28×28
            *layers[:_BEFORE_POOLING],  # (B, 8, 26, 26), (B, 12, 24, 24)
            nn.MaxPool2d(2),  # (B, 12, 12, 12)
            *layers[_BEFORE_POOLING:],  # (B, 16, 10, 10) to (B, 16, 4, 4)
        )
        self.classifier = nn.Linear(channels[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, in_channels, H, W)`, floating point, normalised."""
        logits: Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits
