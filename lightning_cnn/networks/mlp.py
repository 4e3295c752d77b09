"""A plain multilayer perceptron on pixels, as a baseline without convolutions.

Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors", Nature 323, 1986; with
ReLU after Nair and Hinton, ICML 2010.
"""

from torch import Tensor, nn


class MLP(nn.Module):
    """Two hidden layers of 512 units; 669,706 parameters for ten classes.

    Args:
        num_classes: Number of logits.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),  # (B, 784)
            nn.Linear(28 * 28, 512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` for images `(B, 1, 28, 28)`."""
        logits: Tensor = self.layers(images)
        return logits
