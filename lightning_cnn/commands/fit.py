"""``lightning-cnn fit``: train a classifier."""

from lightning_cnn.training.cli import main

__all__ = ["main"]
