"""Weights that ship with this package, by short names such as `mnist/tiny`; `scripts/weights` makes them.

`weights.json` lists them with their SHA-256 and metrics. Each is a safetensors file with a model card beside it.
Imports neither torch nor Lightning.
"""

from pathlib import Path
from typing import Any

from lightning_cnn.config.json import read_json
from lightning_cnn.errors import UserError
from lightning_cnn.files import sha256

#: Where they are.
FOLDER = Path(__file__).parent
MANIFEST = "weights.json"
SUFFIX = ".safetensors"


def read_manifest() -> dict[str, dict[str, Any]]:
    """Return what is known of each file by its name: `sha256`, `hash`, `seed` and `metrics`; empty if none ship.

    Raises:
        UserError: If the list is damaged.
    """
    return read_json(FOLDER / MANIFEST) or {}


def file_of(name: str) -> Path:
    """Return the file of the weights with a full name, such as `mnist/tiny`."""
    return FOLDER / f"{name}{SUFFIX}"


def find(name: str) -> Path | None:
    """Return the file of shipped weights; None if there are none of this name.

    Args:
        name: Dataset and config, such as `mnist/tiny`, or a dataset alone, for those with the best validation accuracy.

    Raises:
        UserError: If the file is missing or damaged.
    """
    manifest = read_manifest()
    if name not in manifest:
        of_dataset = [known for known in manifest if known.partition("/")[0] == name]
        if not of_dataset:
            return None
        name = max(of_dataset, key=lambda known: float(manifest[known]["metrics"]["val/acc"]))
    file = file_of(name)
    if not file.is_file() or sha256(file) != manifest[name]["sha256"]:
        raise UserError(f"{file} is missing or damaged: its SHA-256 is not that of {name}; install the package again")
    return file


def name_of(file: Path) -> str | None:
    """Return the name of shipped weights; None for any other file."""
    if file.suffix != SUFFIX or FOLDER not in file.parents:
        return None
    return file.relative_to(FOLDER).with_suffix("").as_posix()


def listed() -> str:
    """Return which weights there are, for messages; empty if there are none."""
    return f", or weights of this package: {', '.join(names)}" if (names := sorted(read_manifest())) else ""
