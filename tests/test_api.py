"""The public Python API: what it has, and that it is imported only when it is used."""

import subprocess
import sys
from importlib import import_module

import pytest

import lightning_cnn as lc

HEAVY = ("torch", "lightning", "numpy", "matplotlib", "jsonargparse", "PIL", "yaml")


def run_python(code: str) -> str:
    """Run code in a process of its own and return what it prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_import_loads_nothing_else():
    found = run_python(
        "import sys; before = {*sys.modules}; import lightning_cnn; print(*sorted({*sys.modules} - before))"
    )

    assert found.split() == ["lightning_cnn"]


@pytest.mark.parametrize("code", ["lightning_cnn.cli.main(['--help'])", "lightning_cnn.UserError"])
def test_the_command_line_and_errors_load_nothing_heavy(code):
    found = run_python(f"import sys, lightning_cnn.cli; {code}; print(*[n for n in {HEAVY} if n in sys.modules])")

    assert found.splitlines()[-1] == ""


def test_every_name_is_found_and_has_a_docstring():
    for name in lc.__all__:
        assert getattr(lc, name).__doc__, name
        assert name in dir(lc)


def test_names_are_looked_up_once():
    assert lc.load is import_module("lightning_cnn.predict.trained").load
    assert vars(lc)["load"] is lc.load


def test_a_misspelt_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'lightning_cnn' has no attribute 'laod'$"):
        lc.laod  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'laod' from 'lightning_cnn'"):
        exec("from lightning_cnn import laod")


def test_everything_can_be_imported_with_a_star():
    names: dict[str, object] = {}
    exec("from lightning_cnn import *", names)

    assert {*lc.__all__} <= names.keys()


def test_type_checkers_see_the_same_names():
    """The imports for type checkers are those of the table; mypy would not notice a name that is missing in it."""
    source = (import_module("pathlib").Path(lc.__file__)).read_text(encoding="utf-8")
    imports = source.partition("if TYPE_CHECKING:\n")[2].partition("\n\n")[0]

    found: dict[str, object] = {}
    exec("\n".join(line.strip() for line in imports.splitlines()), found)

    assert {name: found[name] for name in lc.__all__} == {name: getattr(lc, name) for name in lc.__all__}
