"""Paths of this checkout, which tests and the processes that they start import instead of an installed package."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONPATH = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
