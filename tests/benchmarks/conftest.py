"""The small sample that ships with the package, in place of both datasets."""

from pathlib import Path

import pytest

from benchmarks.options import Options, write_uncompressed


@pytest.fixture
def options(tmp_path) -> Options:
    return Options(
        repeats=2,
        systems=["CNN", "MLP"],
        data_dir=tmp_path / "data",
        allow_sample=True,
        torchvision_dir=tmp_path / "uncompressed",
        reference=True,
        limit_batches=None,
        processes=[2, 4],
        seeds=2,
    )


@pytest.fixture
def sample(_one_thread, options, monkeypatch) -> Path:
    """The folder of both samples, for torchvision; the data modules load them as well."""
    import torch

    from lightning_cnn.data import sources

    monkeypatch.setattr(sources, "load", lambda facts, *_: sources.load_sample(facts))
    write_uncompressed(options)
    yield options.torchvision_dir
    torch.set_flush_denormal(False)  # `tune_process` sets it
