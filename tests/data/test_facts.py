import re

import numpy as np
import pytest

from lightning_cnn.data.facts import FILES, DatasetFacts, Framing
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.data.sources import load_sample

both = pytest.mark.parametrize("facts", [MNIST, FASHION_MNIST], ids=lambda facts: facts.name)


@both
def test_every_file_has_checksums(facts):
    for checksums in (facts.sha256, facts.sample_sha256):
        assert tuple(checksums) == FILES
        assert all(re.fullmatch("[0-9a-f]{64}", checksum) for checksum in checksums.values())


@both
def test_there_are_ten_classes_with_different_names(facts):
    assert len(set(facts.classes)) == 10


@both
def test_mirrors_are_https_folders(facts):
    assert facts.mirrors
    assert all(re.fullmatch("https://[^ ]+/", mirror) for mirror in facts.mirrors)


def test_the_folders_are_those_of_torchvision():
    from torchvision import datasets

    assert MNIST.folder == datasets.MNIST.__name__
    assert FASHION_MNIST.folder == datasets.FashionMNIST.__name__


def test_the_datasets_have_no_file_in_common():
    assert not set(MNIST.sha256.values()) & set(FASHION_MNIST.sha256.values())


def test_the_names_of_the_clothes_are_in_the_order_of_the_labels():
    from torchvision.datasets import FashionMNIST  # the independent reference

    assert list(FASHION_MNIST.classes) == FashionMNIST.classes


def longer_side(image: np.ndarray) -> int:
    """Longer side of the box around the foreground."""
    return max(np.ptp(places) + 1 for places in np.nonzero(image))


def test_the_framing_of_mnist_fits_the_sample():
    assert MNIST.framing == Framing(side=20, by_mass=True)
    images = load_sample(MNIST).train_images
    places = np.arange(28)

    assert np.mean([longer_side(image) == MNIST.framing.side for image in images]) > 0.99
    for axis in (1, 2):
        mass = images.sum(axis=axis, dtype=float)
        assert mass @ places / mass.sum(axis=1) == pytest.approx(np.full(len(images), 14), abs=0.51)


def test_the_framing_of_fashion_mnist_fits_the_sample():
    assert FASHION_MNIST.framing == Framing(side=28, by_mass=False)
    images = load_sample(FASHION_MNIST).train_images

    assert np.mean([longer_side(image) == FASHION_MNIST.framing.side for image in images]) > 0.95
    middles = [[(places.min() + places.max()) / 2 for places in np.nonzero(image)] for image in images]
    assert np.abs(np.array(middles) - 13.5).max() <= 2
    assert np.mean(np.abs(np.array(middles) - 13.5) <= 0.5) > 0.95


@pytest.mark.parametrize("side", [-1, 0])
def test_a_side_out_of_range_is_rejected(side):
    with pytest.raises(ValueError, match=rf"^side must be at least 1, got {side}$"):
        Framing(side=side)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": ("a", "b", "a")}, "classes must have different names, got 'a' twice"),
        ({"classes": ("a", "")}, "classes must have different names, got ''"),
        ({"std": 0.0}, "mean must be a number and std one greater than 0, got 0.5 and 0.0"),
        ({"mean": float("nan")}, "mean must be a number and std one greater than 0, got nan and 0.5"),
    ],
)
def test_senseless_facts_are_refused(changed, message):
    facts = {"name": "a", "title": "A", "folder": "A", "classes": ("a", "b"), "mean": 0.5, "std": 0.5, "sha256": {}}

    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        DatasetFacts(**facts | changed)


@pytest.mark.parametrize("arguments", [{"side": 0}, {"side": 20.5}, {"side": True}, {"by_mass": "no"}])
def test_a_senseless_framing_is_refused(arguments):
    with pytest.raises(ValueError, match=r"^(side must be at least 1|by_mass must be true or false), got "):
        Framing(**arguments)
