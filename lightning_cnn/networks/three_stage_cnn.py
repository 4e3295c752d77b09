"""ThreeStageCNN: one small network for grey or colour images of 24 to 128 pixels.

Three stages of two 3×3 convolutions, each of which halves the size; batch normalisation after every convolution and
global max pooling, so that the size of the images is free. It is the shape of airbench94 (Jordan, "94% on CIFAR-10 in
3.29 Seconds on a Single GPU", arXiv:2404.00498). There the first layer is whitening, computed from the training
images. Here it starts as a discrete cosine transform of colour patches, followed by batch normalisation: for
photographs this is nearly the same (Ahmed et al., "Discrete Cosine Transform", IEEE Trans. Computers C-23(1), 1974),
needs no data, and is trained like any other layer.
"""

import torch
from torch import Tensor, nn

from lightning_cnn.networks.sizes import IMAGE_SIZE, checked_sides


def _dct(n: int) -> Tensor:
    """Return the orthonormal DCT-II matrix `(n, n)`; row k is the cosine of frequency k."""
    position, frequency = torch.arange(n) + 0.5, torch.arange(n)
    cosines = torch.cos(torch.pi / n * frequency[:, None] * position)
    matrix: Tensor = cosines / cosines.norm(dim=1, keepdim=True)
    return matrix


class _Stage(nn.Sequential):
    """Two convolutions; the first is followed by pooling, which halves height and width."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(out_channels),
            nn.GELU(),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.GELU(),
        )


class ThreeStageCNN(nn.Module):
    """Seven convolutions and global max pooling, for images of 24 to 128 pixels.

    Args:
        num_classes: Number of logits, at least 1.
        in_channels: Channels of the images, at least 1: 1 for grey, 3 for colour.
        image_size: Side of the images in pixels, or (height, width), at least 10; the weights do not depend on it.
        width: Feature maps of the first stage, at least 1; the later ones have two and four times as many.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> ThreeStageCNN(num_classes=4, in_channels=3, image_size=32)(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int | tuple[int, int] = IMAGE_SIZE,
        width: int = 64,
    ) -> None:
        super().__init__()
        checked_sides(self, num_classes, in_channels, image_size, smallest=10)
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        frequencies = torch.einsum("ac,iy,jx->aijcyx", _dct(in_channels), _dct(3), _dct(3))
        stem = nn.Conv2d(in_channels, 9 * in_channels, kernel_size=3, bias=False)
        stem.weight.data.copy_(frequencies.flatten(0, 2))
        self.features = nn.Sequential(  # sizes for 32×32
            nn.Sequential(stem, nn.BatchNorm2d(9 * in_channels), nn.GELU()),  # (B, 27, 30, 30)
            _Stage(9 * in_channels, width),  # (B, 64, 15, 15)
            _Stage(width, 2 * width),  # (B, 128, 7, 7)
            _Stage(2 * width, 4 * width),  # (B, 256, 3, 3)
        )
        self.classifier = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, in_channels, H, W)`, floating point, normalised."""
        logits: Tensor = self.classifier(self.features(images).amax(dim=(2, 3)))
        return logits
