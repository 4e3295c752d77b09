"""The sample that ships with the package, in the place of both datasets."""

from pathlib import Path

import pytest


@pytest.fixture
def sample(_one_thread, tmp_path, monkeypatch) -> Path:
    """The folder of both samples as torchvision reads them; the data modules have them as well."""
    import torch

    from benchmarks import __main__ as benchmark
    from lightning_cnn.data import sources

    def load(facts, data_dir, allow_sample=False):
        return sources.load_sample(facts)

    monkeypatch.setattr(sources, "load", load)
    monkeypatch.setattr(benchmark, "load", load)
    folder = tmp_path / "unpacked"
    benchmark.unpack(tmp_path, allow_sample=True, folder=folder)
    yield folder
    torch.set_flush_denormal(False)  # what loops set for their own process
