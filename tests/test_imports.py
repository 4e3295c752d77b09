"""Imports run one way, and the arrows between the rooms of the package are exactly those listed here."""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import lightning_cnn

PACKAGE = Path(lightning_cnn.__file__).parent
#: Modules that every room may import: they import nothing of the package but each other.
COMMON = {
    "__version__",
    "environment",
    "errors",
    "everyday",
    "files",
    "history",
    "run",
    "signals",
    "startup",
    "text",
    "threads",
    "waiting",
    "weights",
    "config.yaml",
}
#: The rooms that each room imports, besides `COMMON`.
ARROWS = {
    "__init__": {"api", "predict"},  # for type checkers, and when a name is asked for
    "__main__": {"cli"},
    "api": {"config", "plots", "predict", "report", "training"},
    "cli": {"commands", "completion"},
    "completion": {"commands"},
    "commands": {"checkpoint", "config", "data", "export", "predict", "report", "serve", "sweep", "training"},
    "serve": {"data", "predict"},
    "sweep": {"cli", "training"},
    "export": {"checkpoint", "classifiers", "config", "data", "training"},
    "report": {"plots"},
    "predict": {"checkpoint", "config", "data", "plots"},
    "training": {"callbacks", "checkpoint", "classifiers", "config", "data", "plots"},
    "config": {"callbacks", "checkpoint", "classifiers", "data", "networks"},
    "callbacks": {"checkpoint", "classifiers", "data", "plots"},
    "classifiers": {"checkpoint", "networks"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path, typing: bool = True) -> Iterator[str]:
    """Yield what a file imports, in dots, wherever in the file; of `from a import b` it is `a.b`."""
    tree = ast.parse(path.read_text())
    checking = (n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    unused = set() if typing else {inner for node in checking for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in unused:
            continue
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


def room(path: Path) -> str:
    """Return the room of a file; the readers of YAML and JSON are one, as they are below all others."""
    return room_of(["lightning_cnn", *path.relative_to(PACKAGE).with_suffix("").parts])


def room_of(words: list[str]) -> str:
    return "config.yaml" if words[1] == "config" and words[2:3] in (["yaml"], ["json"]) else words[1]


def test_the_arrows_are_exactly_these():
    found = defaultdict(set)
    for path in MODULES:
        names = (name.split(".") for name in imported(path))
        rooms = {room_of(words) for words in names if words[0] == "lightning_cnn" and words[1:]}
        found[room(path)] |= rooms - COMMON - {room(path)}

    assert {name: rooms for name, rooms in found.items() if rooms} == ARROWS


def test_no_module_imports_itself_in_a_circle():
    names = {".".join(("lightning_cnn", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in MODULES}
    arrows = {
        name: {target for found in imported(path, typing=False) for target in (found, found.rpartition(".")[0])}
        for name, path in names.items()
    }
    while free := {name for name, targets in arrows.items() if not targets & arrows.keys() - {name}}:
        arrows = {name: targets for name, targets in arrows.items() if name not in free}

    assert not arrows


def test_the_walk_sees_imports():
    assert "lightning_cnn.commands." in set(imported(PACKAGE / "cli.py"))  # by import_module
    assert "lightning_cnn.data.base.ImageDataModule" in set(imported(PACKAGE / "data" / "__init__.py"))  # in a function


@pytest.mark.parametrize("path", sorted((PACKAGE / "networks").glob("*.py")), ids=lambda path: path.name)
def test_networks_import_torch_only(path):
    for name in imported(path):
        assert name.split(".")[0] == "torch" or name.startswith("lightning_cnn.networks.")


@pytest.mark.parametrize("name", ["cli.py", "everyday.py", "environment.py", "errors.py", "files.py", "__init__.py"])
def test_modules_of_every_command_import_no_packages(name):
    roots = {imported_name.split(".")[0] for imported_name in imported(PACKAGE / name)}

    assert roots <= {*sys.stdlib_module_names, "lightning_cnn"}
