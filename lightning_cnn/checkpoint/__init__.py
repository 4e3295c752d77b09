"""Checkpoints: what they say of themselves, and how they are read and shared."""

from lightning_cnn.checkpoint.description import FORMAT, KEY, Description, class_names, describe
from lightning_cnn.checkpoint.reading import read, read_description, require_same_shapes

__all__ = [
    "FORMAT",
    "KEY",
    "Description",
    "class_names",
    "describe",
    "read",
    "read_description",
    "require_same_shapes",
]
