"""From a config to the flat hyperparameters by which loggers compare runs."""

from collections.abc import Iterator
from typing import Any

#: Settings of the trainer that change what is learned.
_TRAINER = ("max_epochs", "max_steps", "precision", "accumulate_grad_batches", "gradient_clip_val")
#: Settings of model and data that do not change what is learned: places, and ways to compute the same.
_IGNORED = (
    "data_dir",
    "mirrors",
    "allow_sample",
    "eval_batch_size",
    "foreach",
    "fused",
    "capturable",
    "differentiable",
)


def hyperparameters(config: dict[str, Any]) -> dict[str, str | float | bool]:
    """Return the hyperparameters in a config, named as their flags; a class is given by its short name.

    Args:
        config: The config of a run as plain types; any section may be missing.

    Example:
        >>> optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "fused": True}}
        >>> hyperparameters({"seed_everything": 0, "model": {"optimizer": optimizer}, "plots": {"enabled": True}})
        {'seed_everything': 0, 'model.optimizer': 'SGD', 'model.optimizer.lr': 0.1}
    """
    trainer = config.get("trainer", {})
    sections = {
        "seed_everything": config.get("seed_everything"),
        "trainer": {name: trainer[name] for name in _TRAINER if name in trainer},
        "model": config.get("model"),
        "data": config.get("data"),
    }
    return dict(_flatten(sections))


def _flatten(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str | float | bool]]:
    for name, value in settings.items():
        if name in _IGNORED:
            continue
        if isinstance(value, dict) and "class_path" in value:
            yield prefix + name, value["class_path"].rpartition(".")[2]
            value = value.get("init_args", {})
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, bool | int | float | str):
            yield prefix + name, value
        elif isinstance(value, list):
            yield prefix + name, str(value)
