"""Imports the project's Python scripts, which have no suffix, for tests of their functions."""

import importlib.util
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

_FOLDER = Path(__file__).parents[1] / "scripts"


def load(name: str) -> ModuleType:
    """Import a script without running it."""
    loader = SourceFileLoader(name, str(_FOLDER / name))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
