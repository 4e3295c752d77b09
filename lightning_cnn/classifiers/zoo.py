"""One LightningModule per architecture: which network, and the input range that it was published with.

All other arguments are those of `ImageClassifier`. They are forwarded by `**kwargs`, which jsonargparse resolves from
`ImageClassifier`: the command line lists and checks them by name.
"""

from functools import partial
from typing import Any

from lightning_cnn.classifiers.base import ImageClassifier
from lightning_cnn.networks import CNN, MLP, DeepCNN, FastCNN, ShallowCNN, SimpleCNN


class ShallowCNNClassifier(ImageClassifier):
    """`ShallowCNN` with cross-entropy and accuracy; pixels in [−1, 1] by default."""

    def __init__(self, mean: float | list[float] = 0.5, std: float | list[float] = 0.5, **kwargs: Any) -> None:
        super().__init__(ShallowCNN, mean=mean, std=std, **kwargs)


class DeepCNNClassifier(ImageClassifier):
    """`DeepCNN` with cross-entropy and accuracy; pixels normalised with MNIST's statistics by default."""

    def __init__(self, mean: float | list[float] = 0.1307, std: float | list[float] = 0.3081, **kwargs: Any) -> None:
        super().__init__(DeepCNN, mean=mean, std=std, **kwargs)


class SimpleCNNClassifier(ImageClassifier):
    """`SimpleCNN` with cross-entropy and accuracy; pixels in [0, 1] by default."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(SimpleCNN, **kwargs)


class MLPClassifier(ImageClassifier):
    """`MLP` with cross-entropy and accuracy; pixels in [0, 1] by default."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(MLP, **kwargs)


class CNNClassifier(ImageClassifier):
    """`CNN` with cross-entropy and accuracy; pixels in [−1, 1] by default."""

    def __init__(self, mean: float | list[float] = 0.5, std: float | list[float] = 0.5, **kwargs: Any) -> None:
        super().__init__(CNN, mean=mean, std=std, **kwargs)


class FastCNNClassifier(ImageClassifier):
    """`FastCNN` with cross-entropy and accuracy; pixels in [0, 1] by default.

    Args:
        channels: Feature maps of the second convolution, at least 1.
        hidden: Units of the hidden layer, at least 1.
        kwargs: Arguments of `ImageClassifier`.
    """

    def __init__(self, channels: int = 64, hidden: int = 64, **kwargs: Any) -> None:
        super().__init__(partial(FastCNN, channels=channels, hidden=hidden), **kwargs)
