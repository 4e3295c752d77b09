"""The five systems: each with its config, built as `fit` builds it."""

from typing import TYPE_CHECKING, Any

import yaml

from lightning_cnn.files import shipped_config

if TYPE_CHECKING:
    from lightning_cnn.classifiers import ImageClassifier
    from lightning_cnn.data import ImageDataModule

#: Each system with the config that trains it.
SYSTEMS = {
    "ShallowCNN": "fashion_mnist/shallow_cnn.yaml",
    "SimpleCNN": "fashion_mnist/simple_cnn.yaml",
    "MLP": "fashion_mnist/mlp.yaml",
    "CNN": "mnist/cnn.yaml",
    "DeepCNN": "mnist/deep_cnn.yaml",
}
#: Training images per step, in every system and contestant.
BATCH_SIZE = 64
#: Validation images per step, in every system and contestant; that of `fit`.
EVAL_BATCH_SIZE = 1000
#: Steps of `fit` to leave out where steps are timed: the first ones are slower.
WARM_UP_STEPS = 5


def settings(system: str) -> dict[str, Any]:
    """Return what the config of a system says."""
    content: dict[str, Any] = yaml.safe_load(shipped_config(SYSTEMS[system]).read_text())
    return content


def build(system: str, data_dir: str, allow_sample: bool) -> tuple["ImageClassifier", "ImageDataModule"]:
    """Return the classifier and the data module that `fit` would build from the system's config, at batch size 64.

    Args:
        system: One of `SYSTEMS`.
        data_dir: The folder of the datasets.
        allow_sample: Whether the small sample will do where the dataset is missing.
    """
    from jsonargparse import ArgumentParser

    from lightning_cnn.classifiers import ImageClassifier
    from lightning_cnn.data import ImageDataModule

    content = settings(system)
    content["data"]["init_args"] |= {"batch_size": BATCH_SIZE, "data_dir": data_dir, "allow_sample": allow_sample}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageClassifier, "model")
    parser.add_subclass_arguments(ImageDataModule, "data")
    built = parser.instantiate(parser.parse_object({"model": content["model"], "data": content["data"]}))
    return built.model, built.data
