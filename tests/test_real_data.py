"""Tests on the real datasets; skipped where these are missing."""

import json
from pathlib import Path

import numpy as np
import pytest

from lightning_cnn.data import sources
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST

#: Images of each digit; Fashion-MNIST has as many of each class.
TRAIN_DIGITS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_DIGITS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize(
    ("facts", "train", "test"), [(MNIST, TRAIN_DIGITS, TEST_DIGITS), (FASHION_MNIST, [6_000] * 10, [1_000] * 10)]
)
def test_the_datasets_are_complete(real_data_dir, facts, train, test):
    raw = sources.load(facts, real_data_dir)

    assert raw.train_images.shape == (60_000, 28, 28)
    assert raw.test_images.shape == (10_000, 28, 28)
    assert np.bincount(raw.train_labels).tolist() == train
    assert np.bincount(raw.test_labels).tolist() == test
    pixels = raw.train_images / np.float32(255)
    assert pixels.mean(dtype=np.float64) == pytest.approx(facts.mean, abs=5e-5)
    assert pixels.std(dtype=np.float64) == pytest.approx(facts.std, abs=5e-5)


def test_the_fast_recipe_reads_digits(real_data_dir, cli, configs):
    outcome = cli("fit", "--config", configs / "mnist" / "fast.yaml", "--test", "true")

    assert outcome.status == 0, outcome.err
    metrics = json.loads(Path("logs/mnist-fast_cnn/version_0/test_metrics.json").read_text())
    assert metrics["images"] == 10_000
    assert metrics["test/acc"] >= 0.98
    assert metrics["data"] | {"dataset": "MNIST", "sample": False} == metrics["data"]
