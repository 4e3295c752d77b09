"""LightningModules: `ImageClassifier` and one short subclass per architecture; and losses that torch does not have."""

from lightning_cnn.classifiers.base import ImageClassifier
from lightning_cnn.classifiers.losses import FocalLoss
from lightning_cnn.classifiers.zoo import (
    CNNClassifier,
    DeepCNNClassifier,
    FastCNNClassifier,
    MLPClassifier,
    ShallowCNNClassifier,
    SimpleCNNClassifier,
)

__all__ = [
    "CNNClassifier",
    "DeepCNNClassifier",
    "FastCNNClassifier",
    "FocalLoss",
    "ImageClassifier",
    "MLPClassifier",
    "ShallowCNNClassifier",
    "SimpleCNNClassifier",
]
