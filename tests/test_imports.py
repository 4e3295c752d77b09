"""Imports run one way: cli → commands → training → callbacks, classifiers, data → networks, plots, checkpoint."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lightning_cnn

PACKAGE = Path(lightning_cnn.__file__).parent
#: What every part may import: it imports nothing of the package but itself.
COMMON = {"errors", "names", "files", "quiet", "postponed", "machine", "launcher", "__version__"}
#: Each part of the package, and the parts that it may import besides `COMMON`.
ALLOWED = {
    "__init__": set(),
    "__main__": {"cli"},
    "cli": {"commands"},
    # cli: `suggest`
    "commands": {
        "cli",
        "benchmark",
        "callbacks",
        "classifiers",
        "data",
        "networks",
        "plots",
        "checkpoint",
        "precision",
        "report",
        "sweep",
        "training",
    },
    "training": {"callbacks", "classifiers", "checkpoint"},
    "benchmark": {"classifiers", "data", "networks"},
    "precision": set(),
    "evaluation": set(),
    "history": set(),
    "sweep": {"checkpoint", "evaluation", "history", "plots"},
    "report": {"plots", "evaluation", "history"},
    "callbacks": {"classifiers", "data", "networks", "plots", "checkpoint", "evaluation", "history"},
    "classifiers": {"networks", "plots", "checkpoint"},
    "data": {"plots", "checkpoint"},
    "networks": set(),
    "plots": {"evaluation"},
    "checkpoint": set(),
    **{name: set() for name in COMMON - {"__version__"}},
}

MODULES = sorted(PACKAGE.rglob("*.py"))
every_module = pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(PACKAGE)) for path in MODULES])


def imported(path: Path) -> Iterator[str]:
    """Yield what a file imports, in dots, wherever in the file; of `from a import b` it is `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(level=level) if level:
                raise AssertionError(f"{path} has a relative import, in line {node.lineno}")
            case ast.ImportFrom(module=module, names=names):
                yield from (f"{module}.{name.name}" for name in names)
            case ast.Call(
                func=ast.Name(id="import_module"), args=[ast.JoinedStr(values=[ast.Constant(value=start), *_])]
            ):
                yield str(start)


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@every_module
def test_imports_run_one_way(path):
    part = part_of(path)
    parts = {words[1] for name in imported(path) if (words := name.split("."))[0] == "lightning_cnn" and words[1:]}

    assert parts - COMMON - {part} <= ALLOWED[part]


def test_the_walk_sees_imports():
    assert "lightning_cnn.commands." in set(imported(PACKAGE / "cli.py"))  # by import_module
    assert "lightning_cnn.data.base.ImageDataModule" in set(imported(PACKAGE / "data" / "__init__.py"))  # in a function


@pytest.mark.parametrize("path", sorted((PACKAGE / "networks").glob("*.py")), ids=lambda path: path.name)
def test_networks_know_torch_only(path):
    for name in imported(path):
        assert name.split(".")[0] == "torch" or name.startswith("lightning_cnn.networks.")


@pytest.mark.parametrize("name", ["cli.py", "errors.py", "names.py", "files.py", "quiet.py", "__init__.py"])
def test_what_is_always_imported_is_light(name):
    roots = {imported_name.split(".")[0] for imported_name in imported(PACKAGE / name)}

    assert roots <= {*sys.stdlib_module_names, "lightning_cnn"}
