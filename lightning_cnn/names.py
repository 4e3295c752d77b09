"""Names derived from names."""

import re


def snake_case(name: str) -> str:
    """Return a class name as a file would be called: `SimpleCNN` is `simple_cnn`, `MLP` is `mlp`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
