"""``lightning-cnn fit``: train a classifier."""

from lightning_cnn.training.commands import main

__all__ = ["main"]
