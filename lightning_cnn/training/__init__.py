"""Lightning's Trainer with exact resume, atomic checkpoints and deferred signals, and the commands that use it."""

from lightning_cnn.training.trainer import Trainer

__all__ = ["Trainer"]
