"""A plain multilayer perceptron on pixels, as a baseline without convolutions.

Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors", Nature 323, 1986; with
ReLU after Nair and Hinton, ICML 2010.
"""

from torch import Tensor, nn

from lightning_cnn.networks.sizes import checked_sides


class MLP(nn.Module):
    """Two hidden layers of 512 units; 669,706 parameters by default.

    Args:
        num_classes: Number of logits, at least 1.
        in_channels: Channels of the images, at least 1: 1 for grey, 3 for colour.
        image_size: Side of square images in pixels, or (height, width); at least 1.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int | tuple[int, int] = 28) -> None:
        super().__init__()
        height, width = checked_sides(self, num_classes, in_channels, image_size, smallest=1)
        self.layers = nn.Sequential(
            nn.Flatten(),  # (B, C·H·W)
            nn.Linear(in_channels * height * width, 512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, C, H, W)`."""
        logits: Tensor = self.layers(images)
        return logits
