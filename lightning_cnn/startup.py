"""Imports that wait until they are used, for a quick start.

Lightning and torchmetrics import matplotlib and torchvision for what few runs ever do, drawing a metric say: half a
second of a start of three (two cores of an AMD EPYC). Python's own `importlib.util.LazyLoader` does not help: it loads
a module as soon as one takes a name from it, and these are imported by `from … import …`.
"""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


@contextmanager
def postponed(*packages: str) -> Iterator[None]:
    """Postpone every import of these packages within the block, unless they are imported already.

    Whoever imports them there gets stand-ins for their modules and for what is in these; a stand-in finds what it
    stands for when it is used after the block. Imports after the block are not affected.

    Args:
        packages: Names of packages, for example `matplotlib`; they must be installed.
    """
    finder = _Finder(frozenset(packages) - sys.modules.keys())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        finder.waits = False
        for name in finder.names:
            sys.modules.pop(name, None)


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import torch and Lightning within the block in two thirds of the time that it takes otherwise."""
    gc.disable()  # a million objects are made that all stay: looking for garbage among them takes a fifth of the time
    try:
        with postponed("matplotlib", "torchvision"):
            yield
    finally:
        gc.freeze()  # nor shall training look through them again and again
        gc.enable()


class _StandIn(ModuleType):
    """Stands for a module, or for what attributes and calls would have made of one, until it may be found."""

    def __init__(self, name: str, finder: "_Finder", find: Callable[[], Any]) -> None:
        super().__init__(name)
        self.__path__: list[str] = []  # a package: what is in it is for the finder to give
        self._finder = finder
        self._find = find

    def __getattr__(self, name: str) -> Any:
        if not self._finder.waits:
            return getattr(self._find(), name)
        if name.startswith("__"):  # Python's own questions, whether this is a generic type for example
            raise AttributeError(name)
        return _StandIn(f"{self.__name__}.{name}", self._finder, lambda: getattr(self._find(), name))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._finder.waits:
            return self._find()(*args, **kwargs)
        return _StandIn(f"{self.__name__}()", self._finder, lambda: self._find()(*args, **kwargs))

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._find())


class _Finder:
    """Finds stand-ins, as long as it waits, for the modules of some packages."""

    def __init__(self, packages: frozenset[str]) -> None:
        self.packages = packages
        self.waits = True
        self.names: list[str] = []

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        if name.partition(".")[0] not in self.packages:
            return None
        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]  # create_module and exec_module suffice

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self.names.append(spec.name)
        return _StandIn(spec.name, self, lambda: import_module(spec.name))

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: the module is only a stand-in."""
