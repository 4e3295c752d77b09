"""Paths of this checkout, which tests and the processes that they start import instead of an installed package."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONPATH = os.pathsep.join([str(ROOT), str(ROOT / "tests")])


def unmeasured(**variables: str) -> dict[str, str]:
    """The environment of a process whose coverage is not measured: of one that has time limits, or runs a copy."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")} | variables
