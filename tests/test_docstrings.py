"""The examples in docstrings run as doctests, offline and in a temporary folder."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest
from checkout import ROOT


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = sorted((ROOT / "lightning_cnn").rglob("*.py"))
WITH_EXAMPLES = [module_name(path) for path in FILES if ">>>" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_give_what_they_show(name: str) -> None:
    result = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)

    assert result.attempted > 0
    assert result.failed == 0
