"""The five systems: the config of each, and its classifier and data module as `fit` builds them."""

from typing import TYPE_CHECKING, Any

from lightning_cnn.config.yaml import read_config
from lightning_cnn.files import shipped_config

if TYPE_CHECKING:
    from lightning_cnn.classifiers import ImageClassifier
    from lightning_cnn.data import ImageDataModule

#: Each system with its config.
SYSTEMS = {
    "ShallowCNN": "fashion_mnist/shallow_cnn.yaml",
    "SimpleCNN": "fashion_mnist/simple_cnn.yaml",
    "MLP": "fashion_mnist/mlp.yaml",
    "CNN": "mnist/cnn.yaml",
    "DeepCNN": "mnist/deep_cnn.yaml",
}
#: Training images per step, in every system and loop.
BATCH_SIZE = 64
#: Validation images per step, in every system and loop; the default of `fit`.
EVAL_BATCH_SIZE = 1000
#: The first steps of `fit`, which are slower and not timed where steps are.
WARM_UP_STEPS = 5


def settings(system: str) -> dict[str, Any]:
    """Return the content of a system's config."""
    return read_config(shipped_config(SYSTEMS[system]))


def build(system: str, data_dir: str, allow_sample: bool) -> tuple["ImageClassifier", "ImageDataModule"]:
    """Return the classifier and the data module of a system's config, at `BATCH_SIZE`."""
    from jsonargparse import ArgumentParser  # the command itself does not import torch

    from lightning_cnn.classifiers import ImageClassifier
    from lightning_cnn.data import ImageDataModule

    content = settings(system)
    content["data"]["init_args"] |= {"batch_size": BATCH_SIZE, "data_dir": data_dir, "allow_sample": allow_sample}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageClassifier, "model")
    parser.add_subclass_arguments(ImageDataModule, "data")
    built = parser.instantiate(parser.parse_object({name: content[name] for name in ("model", "data")}))
    return built.model, built.data
