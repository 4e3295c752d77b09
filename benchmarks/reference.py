"""PyTorch's MNIST example, independent of this project: two convolutions, dropout, Adadelta and torchvision's data.

After https://github.com/pytorch/examples/blob/main/mnist/main.py, with its default arguments.
"""

import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adadelta
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader
from torchvision import datasets, transforms  # type: ignore[import-untyped]  # has no types

from benchmarks.device import best_device, now
from benchmarks.plain import batches, evaluate

EPOCHS = 14


class Network(nn.Module):
    """Two 3×3 convolutions, a pooling and two fully connected layers, with dropout; 1,199,882 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (B, 64, 12, 12)
            nn.Dropout(0.25),
            nn.Flatten(),
            nn.Linear(9216, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(128, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return log-probabilities `(B, 10)` for images `(B, 1, 28, 28)`."""
        return functional.log_softmax(self.layers(images), dim=1)


def train(folder: str, target: float, started_at: float, limit_batches: int | None) -> dict[str, Any]:
    """Train on the 60,000 training images and test after every epoch, until the test accuracy reaches the target.

    Args:
        folder: The folder of the uncompressed datasets.
        target: Test accuracy, 0 to 1.
        started_at: When the process was started, in seconds since the Unix epoch.
        limit_batches: Stop an epoch and a test after so many batches; None takes all.

    Returns:
        The seconds from the start of the process until the target was reached (None if never), and after each epoch
        the test accuracy and the seconds since the start.
    """
    torch.manual_seed(1)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    train_loader = DataLoader(datasets.MNIST(folder, train=True, transform=transform), batch_size=64, shuffle=True)
    test_loader = DataLoader(datasets.MNIST(folder, train=False, transform=transform), batch_size=1000)
    model = Network().to(best_device())
    optimizer = Adadelta(model.parameters(), lr=1.0)
    scheduler = StepLR(optimizer, step_size=1, gamma=0.7)

    epochs: list[dict[str, float]] = []
    while len(epochs) < EPOCHS and not (epochs and epochs[-1]["test_acc"] >= target):
        model.train()
        for images, targets in batches(train_loader, limit_batches):
            optimizer.zero_grad()
            functional.nll_loss(model(images), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        _, accuracy = evaluate(model, test_loader, limit_batches)
        now()  # waits for the GPU
        epochs.append({"test_acc": accuracy, "seconds": time.time() - started_at})
        scheduler.step()
    reached = epochs[-1]["test_acc"] >= target
    return {"seconds": epochs[-1]["seconds"] if reached else None, "target": target, "epochs": epochs}
