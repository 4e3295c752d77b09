import shutil
from pathlib import Path

import pytest


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
