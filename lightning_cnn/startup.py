"""Settings of the process, made once at its start: lazy imports, warning filters, memory allocation."""

import ctypes
import gc
import logging
import os
import platform
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from lightning_cnn.environment import PARENT

#: Regular expressions that match the start of harmless warnings, each with the reason.
_HARMLESS = (
    # The dataset is in memory: a batch is one indexing operation, which workers would only slow down.
    r"The '\w+' does not have many workers",
    # Lightning's own use of a deprecated torch name.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # Lightning's own use of a deprecated jsonargparse name, and the note that such warnings are shown once.
    r"\s*``instantiate_classes`` was deprecated",
    r"\s*By default only one JsonargparseDeprecationWarning",
    # The size that the model summary estimates is that of the weights, which stay float32.
    "Precision bf16-mixed is not supported by the model summary",
    # A checkpoint has its average as its weights, which are tested.
    r"You're using the WeightAveraging callback, but loading a checkpoint outside the 'fit' stage",
    # `OnExceptionCheckpoint` makes Lightning look for a checkpoint, which our commands do themselves.
    r"`\.fit\(ckpt_path=None\)` was called without a model",
    r"\.fit\(ckpt_path=\"last\"\) is set, but there is no last checkpoint available",
    # A resumed run keeps its folder.
    r"Checkpoint directory .* exists and is not empty",
    # Metrics of whole epochs are logged however few batches there are.
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    # Names of classes or files may have characters that the font of a figure lacks; tables show them.
    r"Glyph \d+ ",
    # It is asked for, and what is disabled has been listed.
    r"You are trying to `self.log\(\)` but `Trainer\(barebones=True\)`",
    # In a notebook, the bar is text, and needs no widgets.
    "IProgress not found",
    # A checkpoint is evaluated without the callbacks that wrote it.
    "Be aware that when using `ckpt_path`, callbacks used to create",
)
#: Packages that Lightning and torchmetrics import without need.
_RARELY_USED = ("matplotlib", "scipy", "torchvision")
#: Parameters of glibc's `mallopt(3)`.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


#: Set as soon as `training.distributed` watches the process that has started this one.
is_supervised = threading.Event()
#: Seconds between two looks at that process, until then.
_INTERVAL = 0.2


def end_with_parent() -> None:
    """End this process if the one is killed that has started it for a further device, also while it still imports.

    On a busy machine that can take minutes, in which processes that nobody needs would keep it busy.
    """
    parent = os.environ.get(PARENT, "")
    if not parent.isdecimal() or os.environ.get("LOCAL_RANK", "0") == "0":
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            if is_supervised.wait(_INTERVAL):
                return
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


@contextmanager
def lazy_imports(*packages: str) -> Iterator[None]:
    """Make every import of these packages within the block lazy, unless they are imported already.

    An import there returns a placeholder for the module, and so do its attributes; a placeholder imports the real
    module when it is used after the block. Imports after the block are not affected.

    Lightning and torchmetrics import matplotlib, scipy and torchvision for rare uses, such as plotting a metric: a
    fifth of the time (two cores of an AMD EPYC). `importlib.util.LazyLoader` loads a module at the first `from … import
    …`, which is how they import these.

    Args:
        packages: Names of packages, for example `matplotlib`; they must be installed.
    """
    finder = _Finder(frozenset(packages) - sys.modules.keys())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        finder.active = False
        for name in finder.names:
            sys.modules.pop(name, None)


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import torch and Lightning within the block in two thirds of the usual time."""
    is_collecting = gc.isenabled()
    gc.disable()  # none of a million new objects is garbage; collecting takes a fifth of the time
    try:
        with lazy_imports(*filter(find_spec, _RARELY_USED)):  # what is not installed must not be found
            yield
    finally:
        gc.freeze()  # nor does training collect them
        if is_collecting:
            gc.enable()


@contextmanager
def unfrozen() -> Iterator[None]:
    """Leave what is frozen in the block to the garbage collector after it, unless the user has frozen objects before.

    A program in Python also ends with objects that it began with.
    """
    is_frozen = gc.get_freeze_count() > 0
    try:
        yield
    finally:
        if not is_frozen:
            gc.unfreeze()


class _Placeholder(ModuleType):
    """Stands for a module, or for an attribute or a call of one, until it is used after the block."""

    def __init__(self, name: str, finder: "_Finder", find: Callable[[], Any]) -> None:
        super().__init__(name)
        self.__path__: list[str] = []  # a package, whose modules the finder finds
        self._finder = finder
        self._find = find

    def __getattr__(self, name: str) -> Any:
        if not self._finder.active:
            return getattr(self._find(), name)
        if name.startswith("__"):  # Python looks these up itself, for example of generic types
            raise AttributeError(name)
        return _Placeholder(f"{self.__name__}.{name}", self._finder, lambda: getattr(self._find(), name))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self._finder.active:
            return self._find()(*args, **kwargs)
        return _Placeholder(f"{self.__name__}()", self._finder, lambda: self._find()(*args, **kwargs))

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._find())


class _Finder:
    """Finds placeholders for the modules of some packages while the block is active."""

    def __init__(self, packages: frozenset[str]) -> None:
        self.packages = packages
        self.active = True
        self.names: list[str] = []

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        if name.partition(".")[0] not in self.packages:
            return None
        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]  # create_module and exec_module suffice

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self.names.append(spec.name)
        return _Placeholder(spec.name, self, lambda: import_module(spec.name))

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: the module is only a placeholder."""


def set_environment() -> None:
    """Set environment variables for this process and those that it starts."""
    # Figures are only written to files. Notebooks and desktops set backends that may not be installed here.
    os.environ["MPLBACKEND"] = "agg"
    # When a peer process dies, torch prints C++ stack traces of the connections that break.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if shutil.get_terminal_size().columns < 2:
        os.environ["COLUMNS"] = "80"  # Lightning divides by half of the width


def filter_warnings() -> None:
    """Ignore the harmless warnings listed here, and the tips of Lightning, and nothing else."""
    for message in _HARMLESS:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_relevant)


def _is_relevant(record: logging.LogRecord) -> bool:
    """Whether a message is neither a tip nor the note that training has reached its last epoch."""
    message = record.getMessage()
    return "Tip:" not in message and not message.startswith("`Trainer.fit` stopped: ")


def tune_process() -> None:
    """Let the process keep freed memory, flush denormal numbers and look for GPUs once; results stay the same.

    glibc returns the large tensors of every step to the system, which then has to map and clear thousands of pages.
    Without that, a step of CNN at batch 64 takes 15 ms instead of 20 in bfloat16, and 23 instead of 30 in float32 (one
    core of an AMD EPYC). Some processors compute with denormal numbers a hundred times slower.
    """
    import torch

    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
    torch.set_flush_denormal(True)
    # Lightning sets it for processes that are forked, which ours are not. With it, torch looks for the driver of a GPU
    # in every step of Adam: 0.5 of the 2.8 ms that a step of `fit` takes with a linear network on that core.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
