import shutil
from pathlib import Path

import pytest

LEARNED = ("--trainer.max_epochs", 10, "--model.optimizer.lr", 0.1, "--trainer.precision", "32-true")


@pytest.fixture(scope="session")
def _kept(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("kept") / "version_0"


@pytest.fixture
def run(_kept, request) -> Path:
    """The folder of a run that has learned its tiny data; it is trained once, and copied for each test."""
    folder = Path("logs/fashion_mnist-mlp/version_0")
    if not _kept.exists():
        shutil.copytree(request.getfixturevalue("fit")("fashion_mnist/mlp.yaml", *LEARNED), _kept)
    shutil.copytree(_kept, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def _kept_onnx(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("kept") / "clothes.onnx"


@pytest.fixture
def exported(run, _kept_onnx, cli, tiny_data) -> Path:
    """The best checkpoint of that run as ONNX, in the current folder; it is exported once."""
    if not _kept_onnx.exists():
        outcome = cli("export", run, "--output", _kept_onnx)
        assert outcome.status == 0, outcome.err
    return Path(shutil.copy(_kept_onnx, "clothes.onnx"))
