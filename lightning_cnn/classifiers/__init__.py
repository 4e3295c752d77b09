"""LightningModules: `ImageClassifier` and one short subclass per architecture."""

from lightning_cnn.classifiers.base import ImageClassifier
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
    "ImageClassifier",
    "MLPClassifier",
    "ShallowCNNClassifier",
    "SimpleCNNClassifier",
]
