"""``lightning-cnn test``: measure a checkpoint on the test images."""

from lightning_cnn.training.commands import main

__all__ = ["main"]
