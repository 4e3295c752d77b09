"""The architectures, in plain PyTorch: `(B, C, H, W)` float images in, `(B, num_classes)` logits out.

Each takes `num_classes`, `in_channels` (C) and `image_size` (H and W); by default ten classes of grey images of 28×28
pixels, as published. Only the first layers and the first linear layer depend on `in_channels` and `image_size`.

In the published networks, max-pooling stands before the ReLU: both orders give bit-identical output and gradients,
because the ReLU is monotonic, but this one rectifies a quarter of the elements (11 to 16 % less time per step of
`ShallowCNN`, `SimpleCNN` and `CNN` on a CPU). Neither layer has parameters, so the names in the state dict are those of
the published order.
"""

from lightning_cnn.networks.cnn import CNN
from lightning_cnn.networks.deep_cnn import DeepCNN
from lightning_cnn.networks.fast_cnn import FastCNN
from lightning_cnn.networks.mlp import MLP
from lightning_cnn.networks.shallow_cnn import ShallowCNN
from lightning_cnn.networks.simple_cnn import SimpleCNN
from lightning_cnn.networks.six_layer_cnn import SixLayerCNN
from lightning_cnn.networks.three_stage_cnn import ThreeStageCNN

__all__ = ["CNN", "MLP", "DeepCNN", "FastCNN", "ShallowCNN", "SimpleCNN", "SixLayerCNN", "ThreeStageCNN"]
