"""The architectures, in plain PyTorch: `(B, 1, 28, 28)` float images in, `(B, num_classes)` logits out."""

from lightning_cnn.networks.cnn import CNN
from lightning_cnn.networks.deep_cnn import DeepCNN
from lightning_cnn.networks.fast_cnn import FastCNN
from lightning_cnn.networks.mlp import MLP
from lightning_cnn.networks.shallow_cnn import ShallowCNN
from lightning_cnn.networks.simple_cnn import SimpleCNN

__all__ = ["CNN", "MLP", "DeepCNN", "FastCNN", "ShallowCNN", "SimpleCNN"]
