"""Checkpoints: what they say about themselves, and how they are read without being trusted."""

from lightning_cnn.checkpoint.description import (
    FORMAT,
    KEY,
    RESUME_KEY,
    Description,
    are_statistics,
    class_names,
    class_path,
    describe,
    init_args,
    label_smoothing,
    require_class_names,
)
from lightning_cnn.checkpoint.reading import read, read_description, read_progress, require_same_shapes

__all__ = [
    "FORMAT",
    "KEY",
    "RESUME_KEY",
    "Description",
    "are_statistics",
    "class_names",
    "class_path",
    "describe",
    "init_args",
    "label_smoothing",
    "read",
    "read_description",
    "read_progress",
    "require_class_names",
    "require_same_shapes",
]
