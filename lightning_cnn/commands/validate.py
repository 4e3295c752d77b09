"""``lightning-cnn validate``: measure a checkpoint on the validation images."""

from lightning_cnn.training.cli import main

__all__ = ["main"]
