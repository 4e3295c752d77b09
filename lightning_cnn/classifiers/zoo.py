"""One LightningModule per architecture: nothing but construction.

The arguments are those of `ImageClassifier`; `mean` and `std` default to the input range that each architecture was
published with.
"""

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch.optim import Adam

from lightning_cnn.classifiers.base import ImageClassifier
from lightning_cnn.networks import CNN, MLP, DeepCNN, FastCNN, ShallowCNN, SimpleCNN


class ShallowCNNClassifier(ImageClassifier):
    """`ShallowCNN` with cross-entropy and accuracy; pixels in [−1, 1]."""

    def __init__(
        self,
        optimizer: OptimizerCallable = Adam,
        scheduler: LRSchedulerCallable | None = None,
        mean: float = 0.5,
        std: float = 0.5,
        num_classes: int = 10,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(ShallowCNN(num_classes), optimizer, scheduler, mean, std, num_classes, label_smoothing)


class DeepCNNClassifier(ImageClassifier):
    """`DeepCNN` with cross-entropy and accuracy; pixels with MNIST's mean and deviation taken out."""

    def __init__(
        self,
        optimizer: OptimizerCallable = Adam,
        scheduler: LRSchedulerCallable | None = None,
        mean: float = 0.1307,
        std: float = 0.3081,
        num_classes: int = 10,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(DeepCNN(num_classes), optimizer, scheduler, mean, std, num_classes, label_smoothing)


class SimpleCNNClassifier(ImageClassifier):
    """`SimpleCNN` with cross-entropy and accuracy; pixels in [0, 1]."""

    def __init__(
        self,
        optimizer: OptimizerCallable = Adam,
        scheduler: LRSchedulerCallable | None = None,
        mean: float = 0.0,
        std: float = 1.0,
        num_classes: int = 10,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(SimpleCNN(num_classes), optimizer, scheduler, mean, std, num_classes, label_smoothing)


class MLPClassifier(ImageClassifier):
    """`MLP` with cross-entropy and accuracy; pixels in [0, 1]."""

    def __init__(
        self,
        optimizer: OptimizerCallable = Adam,
        scheduler: LRSchedulerCallable | None = None,
        mean: float = 0.0,
        std: float = 1.0,
        num_classes: int = 10,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(MLP(num_classes), optimizer, scheduler, mean, std, num_classes, label_smoothing)


class CNNClassifier(ImageClassifier):
    """`CNN` with cross-entropy and accuracy; pixels in [−1, 1]."""

    def __init__(
        self,
        optimizer: OptimizerCallable = Adam,
        scheduler: LRSchedulerCallable | None = None,
        mean: float = 0.5,
        std: float = 0.5,
        num_classes: int = 10,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(CNN(num_classes), optimizer, scheduler, mean, std, num_classes, label_smoothing)


class FastCNNClassifier(ImageClassifier):
    """`FastCNN` with cross-entropy and accuracy; pixels in [0, 1] unless `mean` and `std` say otherwise.

    Args:
        channels: Feature maps of the second convolution, at least 1.
        hidden: Units of the hidden layer, at least 1.
    """

    def __init__(
        self,
        optimizer: OptimizerCallable = Adam,
        scheduler: LRSchedulerCallable | None = None,
        mean: float = 0.0,
        std: float = 1.0,
        num_classes: int = 10,
        label_smoothing: float = 0.0,
        channels: int = 64,
        hidden: int = 64,
    ) -> None:
        network = FastCNN(num_classes, channels, hidden)
        super().__init__(network, optimizer, scheduler, mean, std, num_classes, label_smoothing)
