"""``lightning-cnn validate``: measure a checkpoint on the validation images."""

from lightning_cnn.training.commands import main

__all__ = ["main"]
