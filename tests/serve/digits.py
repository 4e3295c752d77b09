"""A classifier trained on the sample of MNIST that ships with the package, and how digits are drawn."""

from math import cos, pi, sin

import numpy as np
import torch

from lightning_cnn.data import sources
from lightning_cnn.data.facts import Framing
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.networks import CNN

Stroke = list[tuple[float, float]]


def _arc(x: float, y: float, width: float, height: float, start: float, end: float) -> Stroke:
    """Points of an ellipse, in turns clockwise from its right end."""
    turns = (start + (end - start) * step / 24 for step in range(25))
    return [(x + width * cos(2 * pi * turn), y + height * sin(2 * pi * turn)) for turn in turns]


#: The strokes of each digit, in units of the side of the drawing area.
STROKES: dict[str, list[Stroke]] = {
    "0": [_arc(0.5, 0.5, 0.18, 0.28, -0.25, 0.75)],
    "1": [[(0.52, 0.2), (0.48, 0.8)]],
    "2": [[*_arc(0.5, 0.36, 0.18, 0.16, -0.5, 0.1), (0.3, 0.78), (0.72, 0.78)]],
    "3": [[*_arc(0.47, 0.35, 0.18, 0.14, -0.45, 0.25), *_arc(0.47, 0.64, 0.2, 0.15, -0.25, 0.42)]],
    "4": [[(0.38, 0.2), (0.3, 0.52), (0.7, 0.52)], [(0.66, 0.2), (0.62, 0.82)]],
    "5": [[(0.68, 0.22), (0.38, 0.22), (0.36, 0.48), *_arc(0.48, 0.62, 0.18, 0.17, -0.3, 0.4)]],
    "6": [[(0.6, 0.18), (0.42, 0.42), *_arc(0.5, 0.64, 0.15, 0.16, -0.5, 0.5)]],
    "7": [[(0.28, 0.24), (0.72, 0.24), (0.6, 0.48), (0.46, 0.8)]],
    "8": [[*_arc(0.5, 0.35, 0.14, 0.14, 0.25, -0.75), *_arc(0.5, 0.64, 0.17, 0.15, -0.25, 0.75)]],
    "9": [[*_arc(0.5, 0.36, 0.16, 0.15, 0, -1), (0.64, 0.5), (0.58, 0.82)]],
}


class Digits(torch.nn.Module):
    """A trained network, with scaling and softmax; also a `predict.model.Model`."""

    def __init__(self) -> None:
        super().__init__()
        self.class_names = list(MNIST.classes)
        self.image_shape = (1, 28, 28)
        self.framing = Framing()
        self.label_smoothing = 0.0
        self.network = CNN()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.network(images.float() / 127.5 - 1)
        return logits, logits.softmax(1)

    def probabilities(self, images):
        with torch.inference_mode():
            return self(torch.from_numpy(np.ascontiguousarray(images)))[1].numpy()


def train(epochs: int = 4) -> Digits:
    """Return a network that has learned from a few thousand digits, in seconds."""
    raw = sources.load_sample(MNIST)
    images = torch.from_numpy(np.array(raw.train_images))[:, None]
    targets = torch.from_numpy(np.array(raw.train_labels)).long()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Digits()
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        for _ in range(epochs):
            for batch in torch.randperm(len(images)).split(64):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(images[batch])[0], targets[batch]).backward()
                optimizer.step()
    return model.eval()
