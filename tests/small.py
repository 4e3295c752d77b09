"""A classifier that is trained in little time, for tests that are about no certain network."""

from typing import Any

from torch import nn

from lightning_cnn.classifiers import ImageClassifier


class SmallClassifier(ImageClassifier):
    """Dropout and a linear layer on the means of 49 squares."""

    def __init__(self, dropout: float = 0.5, **options: Any) -> None:
        layers = (nn.AvgPool2d(4), nn.Flatten(), nn.Dropout(dropout), nn.Linear(49, 10))
        super().__init__(nn.Sequential(*layers), **options)
