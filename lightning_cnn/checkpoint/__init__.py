"""Checkpoints: what they say of themselves, how they are read and shared, and where they lie."""

from lightning_cnn.checkpoint.description import FORMAT, KEY, Description, class_names, describe
from lightning_cnn.checkpoint.reading import read, read_description, require_same_shapes
from lightning_cnn.run import FOLDER, resolve, run_folder, run_folders

__all__ = [
    "FOLDER",
    "FORMAT",
    "KEY",
    "Description",
    "class_names",
    "describe",
    "read",
    "read_description",
    "require_same_shapes",
    "resolve",
    "run_folder",
    "run_folders",
]
