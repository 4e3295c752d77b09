"""``lightning-cnn test``: measure a checkpoint on the test images."""

from lightning_cnn.training.cli import main

__all__ = ["main"]
