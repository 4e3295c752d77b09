"""Fixtures of all tests: an empty current folder, no network, and tiny datasets on request."""

import functools
import gc
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from checkout import PYTHONPATH, ROOT
from drawing import draw_nothing
from idx import write_idx_dataset

from lightning_cnn.cli import main
from lightning_cnn.data.facts import FILES, DatasetFacts
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.startup import filter_warnings
from lightning_cnn.threads import available_cores

# The processes of tests would inherit that `nohup` ignores the one, and `&` in a script the other.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
#: What lets MLP learn the tiny data.
LEARNED = ("--trainer.max_epochs", 10, "--model.optimizer.lr", 0.1, "--trainer.precision", "32-true")

gc.set_threshold(50_000, 20, 50)  # the default takes a tenth of the time: torch's objects are not garbage
_FREEZE, _UNFREEZE = gc.freeze, gc.unfreeze


def pytest_collection_finish():
    """Let the garbage collector pass over modules and tests: two million objects that stay until the end."""
    gc.collect()
    _FREEZE()


def pytest_sessionfinish():
    """Let them be freed: Triton reports what is not."""
    _UNFREEZE()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return three workers for two cores: tests wait for processes, servers and browsers."""
    return max(1, available_cores() * 3 // 2)


@pytest.fixture(scope="session")
def _cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _isolated(tmp_path, _cache, monkeypatch):
    """Run each test in a temporary folder, and refuse connections to other machines."""
    connect = socket.socket.connect

    def connect_to_this_machine(self, address):
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"tests do not connect to {address[0]}")
        return connect(self, address)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)  # for processes that a test starts
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # whatever else the machine does
    monkeypatch.setenv("XDG_CACHE_HOME", str(_cache))
    monkeypatch.delenv("LIGHTNING_CNN_CACHE_DIR", raising=False)
    monkeypatch.delenv("LIGHTNING_CNN_CACHE_LIMIT", raising=False)
    monkeypatch.setattr(socket.socket, "connect", connect_to_this_machine)
    monkeypatch.setattr(os, "fsync", lambda file: None)  # no file is needed after a power failure
    for name in ("freeze", "unfreeze"):
        monkeypatch.setattr(gc, name, lambda: None)


@pytest.fixture
def unfrozen(_isolated, monkeypatch) -> Iterator[None]:
    """Let functions freeze and unfreeze all objects, of which none is frozen at first."""
    monkeypatch.setattr(gc, "freeze", _FREEZE)
    monkeypatch.setattr(gc, "unfreeze", _UNFREEZE)
    _UNFREEZE()
    yield
    gc.collect()
    _FREEZE()


@pytest.fixture(autouse=True)
def _handlers():
    """Restore the signal handlers: a run that is ended by a signal ignores further signals."""
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
    before = {signum: signal.getsignal(signum) for signum in signals}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture(scope="session")
def configs() -> Path:
    return ROOT / "configs"


@pytest.fixture(scope="session")
def _tiny_datasets(tmp_path_factory) -> tuple[Path, dict[str, DatasetFacts]]:
    folder = tmp_path_factory.mktemp("tiny")
    return folder, {f.name: write_idx_dataset(folder, f, seed=seed) for seed, f in enumerate((MNIST, FASHION_MNIST))}


@pytest.fixture
def _one_thread():
    """Compute in one thread: for tiny batches, threads cost more than they save."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def quick_exports() -> None:
    """Let all exports to ONNX share one registry of operators, which takes longer to build than a file to write."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))


@pytest.fixture
def tiny_data(_tiny_datasets, _one_thread, monkeypatch) -> Path:
    """A data folder with 200 learnable training and 100 test images per dataset; the data modules have its facts."""
    from lightning_cnn.data import FashionMNISTDataModule, MNISTDataModule

    folder, facts = _tiny_datasets
    monkeypatch.setattr(MNISTDataModule, "facts", facts["mnist"])
    monkeypatch.setattr(FashionMNISTDataModule, "facts", facts["fashion_mnist"])
    monkeypatch.setenv("LIGHTNING_CNN_DATA_DIR", str(folder))
    return folder


@pytest.fixture
def real_data_dir(monkeypatch) -> Path:
    """The data folder with the real files of both datasets; the test is skipped if there is none."""
    candidates = [ROOT.parent / "shared" / "data", ROOT / "data"]
    if given := os.environ.get("LIGHTNING_CNN_DATA_DIR"):
        candidates.insert(0, Path(given))
    for folder in candidates:
        if all(_has_files(folder / facts.folder / "raw") for facts in (MNIST, FASHION_MNIST)):
            monkeypatch.setenv("LIGHTNING_CNN_DATA_DIR", str(folder))
            return folder
    pytest.skip("the real MNIST and Fashion-MNIST are not here: set LIGHTNING_CNN_DATA_DIR to a folder with both")


def _has_files(folder: Path) -> bool:
    return all((folder / file).is_file() or (folder / f"{file}.gz").is_file() for file in FILES)


@dataclass(frozen=True)
class Outcome:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str


@pytest.fixture
def no_figures(monkeypatch) -> None:
    """Draw empty figures: those of the package are tested in plots and report/test_figures.py."""
    draw_nothing(monkeypatch)


@pytest.fixture
def _drawing() -> None:
    """Let commands draw their figures, which takes most of the time of a test on few images."""


@pytest.fixture
def cli(capsys, monkeypatch, request) -> Callable[..., Outcome]:
    """Run a command in this process, without the figures, and without git, which is started three times in a run."""
    monkeypatch.setattr("lightning_cnn.callbacks.run_record._git", lambda *_: "")
    if "_drawing" not in request.fixturenames:
        request.getfixturevalue("no_figures")

    def run(*argv: object) -> Outcome:
        capsys.readouterr()
        status = main([str(argument) for argument in argv])
        out, err = capsys.readouterr()
        return Outcome(status, out, err)

    return run


@pytest.fixture
def fit(cli, tiny_data, configs) -> Callable[..., Path]:
    """Train on tiny data, by default for one epoch, in float32 and without figures, and return the run folder."""

    def run(config: str, *flags: object) -> Path:
        plain = ("--plots.enabled", "false", "--dashboard.enabled", "false", "--trainer.precision", "32-true")
        outcome = cli(
            "fit", "--config", configs / config, "--trainer.max_epochs", 1, "--data.val_size", 50, *plain, *flags
        )
        assert outcome.status == 0, outcome.err
        (line,) = [line for line in outcome.out.splitlines() if line.startswith("Run folder: ")]
        return Path(line.removeprefix("Run folder: "))

    return run


@pytest.fixture(scope="session")
def _trained() -> dict[tuple[str, ...], tuple[Path, Path]]:
    return {}


@pytest.fixture
def trained(fit, _trained, tmp_path_factory) -> Callable[..., Path]:
    """Return a run like those of `fit`; each is trained once, and copied from then on."""

    def run(config: str, *flags: object) -> Path:
        key = (config, *map(str, flags))
        if key not in _trained:
            folder = fit(config, *flags)
            _trained[key] = (folder.parent, shutil.copytree(folder, tmp_path_factory.mktemp("trained") / "run"))
            return folder
        parent, kept = _trained[key]
        return shutil.copytree(kept, parent / f"version_{len(list(parent.glob('version_*')))}")

    return run


@pytest.fixture
def run(trained) -> Path:
    """The folder of a run that has learned its tiny data."""
    return trained("fashion_mnist/mlp.yaml", *LEARNED)


@pytest.fixture
def trainer(_one_thread, tmp_path):
    """Create a Trainer, Lightning's or ours, without output and files by default."""

    def make(ours=False, **options):
        from lightning.pytorch import Trainer
        from lightning.pytorch.callbacks import Checkpoint

        from lightning_cnn.training.trainer import Trainer as OurTrainer

        filter_warnings()  # here, because pytest resets the filters between fixtures and test
        checkpointing = any(isinstance(callback, Checkpoint) for callback in options.get("callbacks", []))
        silence = {"logger": False, "enable_checkpointing": checkpointing, "enable_progress_bar": False}
        defaults = {"accelerator": "cpu", "default_root_dir": tmp_path, "enable_model_summary": False, "max_epochs": 1}
        return (OurTrainer if ours else Trainer)(**{**silence, **defaults, **options})

    return make


@pytest.fixture
def user_module(tmp_path, monkeypatch) -> Iterator[Callable[[str, str], str]]:
    """Return a function that writes a module of the user's with a unique name, and returns that name."""
    names = []

    def write(name: str, code: str) -> str:
        names.append(f"{name}_{abs(hash(tmp_path))}")
        (tmp_path / f"{names[-1]}.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
        return names[-1]

    yield write
    for name in names:
        sys.modules.pop(name, None)
