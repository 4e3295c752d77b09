"""From a config to the flat list of hyperparameters by which TensorBoard compares runs."""

from collections.abc import Iterator
from typing import Any

#: Settings of the trainer that change what is learned.
_OF_TRAINER = ("max_epochs", "max_steps", "precision", "accumulate_grad_batches", "gradient_clip_val")
#: Settings of model and data that do not: places, and ways of computing the same.
_NOT_LEARNED = ("data_dir", "allow_sample", "eval_batch_size", "foreach", "fused", "capturable", "differentiable")


def hyperparameters(config: dict[str, Any]) -> dict[str, str | float | bool]:
    """Return the hyperparameters in a config, named as their flags, `model.optimizer.lr`; a class is its short name.

    Args:
        config: A run's config as plain types; any of its sections may be missing.
    """
    trainer = config.get("trainer", {})
    sections = {
        "seed_everything": config.get("seed_everything"),
        "trainer": {name: trainer[name] for name in _OF_TRAINER if name in trainer},
        "model": config.get("model"),
        "data": config.get("data"),
    }
    return dict(_flat(sections))


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str | float | bool]]:
    for name, value in settings.items():
        if name in _NOT_LEARNED:
            continue
        if isinstance(value, dict) and "class_path" in value:
            yield prefix + name, value["class_path"].rpartition(".")[2]
            value = value.get("init_args", {})
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, bool | int | float | str):
            yield prefix + name, value
        elif isinstance(value, list):
            yield prefix + name, str(value)
