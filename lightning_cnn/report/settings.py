"""The settings of runs, one under another, and those in which runs differ."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml


def flatten(settings: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each setting with its path in dots and its value in words, for example `model.init_args.mean`, `0.5`."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else _in_one_line(value)


def _in_one_line(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True)
    return text.removesuffix("...\n").strip()  # YAML's end of a document, after a bare value


def differing(configs: Sequence[Mapping[Any, Any]]) -> list[tuple[str, list[str | None]]]:
    """Return the settings that are not the same in all configs, in their order, with the value of each config or None.

    Args:
        configs: The settings of at least one run.
    """
    flat = [dict(flatten(config)) for config in configs]
    keys = dict.fromkeys(key for config in flat for key in config)  # a set that keeps the order
    rows = [(key, [config.get(key) for config in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]
