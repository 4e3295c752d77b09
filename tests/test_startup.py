import os
import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

from lightning_cnn.startup import postponed

INIT = """
VALUE = 3

class Pair:
    ORDER = ["left", "right"]

    def __init__(self, left, right=0):
        self.left, self.right = left, right

def repeated(times):
    return lambda function: lambda *args: times * function(*args)
"""
INNER = """
from costly import VALUE

def doubled(number):
    return 2 * number
"""


@pytest.fixture(autouse=True)
def _costly(tmp_path, monkeypatch):
    """Two packages, `costly` with the modules `costly.inner` and `costly.inner.most`, and `dear`."""
    inner = tmp_path / "costly" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "costly" / "__init__.py").write_text(INIT)
    (inner / "__init__.py").write_text(INNER)
    (inner / "most.py").write_text("DEPTH = 2\n")
    (tmp_path / "dear.py").write_text("NAME = 'dear'\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in loaded("costly", "dear"):
        del sys.modules[name]


def loaded(*packages: str) -> set[str]:
    """Names of the modules of these packages that are in `sys.modules`."""
    return {name for name in sys.modules if name.partition(".")[0] in packages}


# What stand-ins become


def test_nothing_is_imported_until_it_is_used():
    with postponed("costly"):
        import costly
        from costly.inner import doubled

    assert loaded("costly") == set()
    assert costly.VALUE == 3
    assert loaded("costly") == {"costly"}
    assert doubled(4) == 8
    assert loaded("costly") == {"costly", "costly.inner"}


def test_modules_are_found_however_they_were_imported():
    with postponed("costly"):
        import costly.inner.most
        import costly.inner.most as by_another_name
        from costly import inner
        from costly.inner import most

    assert costly.inner.VALUE == 3
    assert inner.most.DEPTH == most.DEPTH == by_another_name.DEPTH == costly.inner.most.DEPTH == 2


def test_classes_make_instances_and_know_them():
    with postponed("costly"):
        from costly import Pair

    pair = Pair(1, right=2)

    assert (pair.left, pair.right, Pair.ORDER) == (1, 2, ["left", "right"])
    assert isinstance(pair, Pair)
    assert not isinstance(3, Pair)
    assert type(pair) is import_module("costly").Pair


def test_what_was_decorated_within_the_block_works_after_it():
    with postponed("costly"):
        from costly import repeated

        @repeated(3)
        def answer(word):
            return word

    assert answer("no ") == "no no no "


def test_what_was_made_of_calls_and_attributes_within_the_block_is_found_after_it():
    with postponed("costly"):
        import costly

        left = costly.Pair([1, 2]).left
        order = costly.Pair.ORDER

    assert left.index(2) == 1
    assert order.count("left") == 1


def test_a_name_that_is_not_there_is_missed_when_it_is_used():
    with postponed("costly"):
        from costly import nonsense

    with pytest.raises(AttributeError, match="nonsense"):
        nonsense.anything  # noqa: B018


def test_a_package_that_is_not_there_is_missed_when_it_is_used():
    with postponed("dearest"):
        import dearest

    with pytest.raises(ModuleNotFoundError, match="dearest"):
        dearest.anything  # noqa: B018


# What is left alone


def test_what_is_imported_already_is_real():
    import costly as real

    with postponed("costly", "dear"):
        import costly
        import dear
        from costly.inner import doubled

        assert costly is real
        assert doubled(2) == 4

    assert sys.modules["costly"] is real
    assert dear.NAME == "dear"


def test_other_packages_are_imported_at_once():
    with postponed("costly"):
        import dear

        assert type(dear) is ModuleType
        assert dear.NAME == "dear"


def test_a_package_whose_name_begins_alike_is_another():
    with postponed("cost", "costly.inner"):
        import costly

        assert costly.VALUE == 3


def test_imports_after_the_block_are_real():
    with postponed("costly"):
        import costly as stand_in
        import costly.inner

    import costly
    from costly import Pair
    from costly.inner import doubled

    assert type(costly) is ModuleType
    assert isinstance(Pair, type)
    assert doubled(1) == 2
    assert stand_in.Pair is Pair


def test_no_trace_is_left():
    finders, modules = list(sys.meta_path), dict(sys.modules)

    with postponed("costly", "dear"):
        import costly.inner.most  # noqa: F401
        import dear  # noqa: F401

        assert loaded("costly", "dear") == {"costly", "costly.inner", "costly.inner.most", "dear"}

    assert sys.meta_path == finders
    assert sys.modules == modules


def test_no_trace_is_left_by_a_block_that_fails():
    finders, modules = list(sys.meta_path), dict(sys.modules)

    with pytest.raises(ModuleNotFoundError, match="no_such_module"), postponed("costly"):
        assert import_module("costly.inner") and import_module("no_such_module")

    assert sys.meta_path == finders
    assert sys.modules == modules


# What it is for


def test_training_starts_without_what_draws_and_draws_all_the_same():
    code = """
import sys
from lightning_cnn.cli import _load
_load("fit")
print(sorted({"matplotlib", "torchvision"} & sys.modules.keys()))
import torch
from torchmetrics.classification import MulticlassAccuracy
metric = MulticlassAccuracy(3)
metric.update(torch.eye(3), torch.arange(3))
figure, axes = metric.plot()
from matplotlib.figure import Figure
print(type(figure) is Figure, len(figure.axes), axes in figure.axes)
import torchvision
print(torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1), 0.5).tolist())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "MPLBACKEND": "agg"},
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "True 1 True", "[0]"]
