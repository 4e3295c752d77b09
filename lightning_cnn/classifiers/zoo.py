"""One LightningModule per architecture: which network, and the input range that it was published with.

All other arguments are those of `ImageClassifier`. They are forwarded by `**kwargs`, which jsonargparse resolves from
`ImageClassifier`: the command line lists and checks them by name.
"""

from typing import Any

from lightning_cnn.classifiers.base import ImageClassifier
from lightning_cnn.networks import CNN, MLP, DeepCNN, FastCNN, ShallowCNN, SimpleCNN


class ShallowCNNClassifier(ImageClassifier):
    """`ShallowCNN` with cross-entropy and accuracy; pixels in [−1, 1] by default."""

    def __init__(self, mean: float = 0.5, std: float = 0.5, num_classes: int = 10, **kwargs: Any) -> None:
        super().__init__(ShallowCNN(num_classes), mean=mean, std=std, num_classes=num_classes, **kwargs)


class DeepCNNClassifier(ImageClassifier):
    """`DeepCNN` with cross-entropy and accuracy; pixels normalised with MNIST's statistics by default."""

    def __init__(self, mean: float = 0.1307, std: float = 0.3081, num_classes: int = 10, **kwargs: Any) -> None:
        super().__init__(DeepCNN(num_classes), mean=mean, std=std, num_classes=num_classes, **kwargs)


class SimpleCNNClassifier(ImageClassifier):
    """`SimpleCNN` with cross-entropy and accuracy; pixels in [0, 1] by default."""

    def __init__(self, num_classes: int = 10, **kwargs: Any) -> None:
        super().__init__(SimpleCNN(num_classes), num_classes=num_classes, **kwargs)


class MLPClassifier(ImageClassifier):
    """`MLP` with cross-entropy and accuracy; pixels in [0, 1] by default."""

    def __init__(self, num_classes: int = 10, **kwargs: Any) -> None:
        super().__init__(MLP(num_classes), num_classes=num_classes, **kwargs)


class CNNClassifier(ImageClassifier):
    """`CNN` with cross-entropy and accuracy; pixels in [−1, 1] by default."""

    def __init__(self, mean: float = 0.5, std: float = 0.5, num_classes: int = 10, **kwargs: Any) -> None:
        super().__init__(CNN(num_classes), mean=mean, std=std, num_classes=num_classes, **kwargs)


class FastCNNClassifier(ImageClassifier):
    """`FastCNN` with cross-entropy and accuracy; pixels in [0, 1] by default.

    Args:
        channels: Feature maps of the second convolution, at least 1.
        hidden: Units of the hidden layer, at least 1.
    """

    def __init__(self, channels: int = 64, hidden: int = 64, num_classes: int = 10, **kwargs: Any) -> None:
        super().__init__(FastCNN(num_classes, channels, hidden), num_classes=num_classes, **kwargs)
