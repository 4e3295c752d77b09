import re

import pytest
from idx import write_idx_dataset

from benchmarks import folder
from benchmarks.sections import SECTIONS
from lightning_cnn.data import fashion_mnist
from lightning_cnn.startup import filter_warnings


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with the files of a tiny dataset."""
    facts = write_idx_dataset(tmp_path / "data", fashion_mnist.FASHION_MNIST)
    monkeypatch.setattr(fashion_mnist, "FASHION_MNIST", facts)
    assert folder.write(str(tmp_path / "images"), str(tmp_path / "data"), allow_sample=False) == 300
    return str(tmp_path / "images")


def test_both_loops_train_on_as_many_images(root, tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTNING_CNN_CACHE_DIR", "")  # restored afterwards
    filter_warnings()  # of Lightning's own

    assert folder.open_images(root, str(tmp_path / "cache")) > 0
    fit = folder.fit(root, str(tmp_path / "cache"), "FastCNN", seed=0, limit_batches=2)
    plain = folder.train_image_folder(root, "FastCNN", seed=0, limit_batches=2)

    assert len([*tmp_path.glob("cache/images/*/images.npy")]) == 1
    assert abs(fit["images"] - plain["images"]) <= 1
    assert fit["seconds"] > 0
    assert plain["seconds"] > 0


def test_the_table_has_ratios_within_each_repeat():
    runs = [
        {"system": "CNN", "files": 300, "decoded": 4.0, "cached": 0.5, "plain": {"seconds": s}, "fit": {"seconds": 2.0}}
        for s in (4.0, 8.0, 10.0)
    ]

    table = str(SECTIONS["folder"].table(runs))

    assert re.search(r"\| CNN +\| 300 +\| 4\.0 .*\| 0\.5 .*\| 8\.0 \(4\.0–10\.0\).*\| 4\.0 × \(2\.0–5\.0\)", table)
