import re

import pytest

from lightning_cnn.data.facts import FILES
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST

both = pytest.mark.parametrize("facts", [MNIST, FASHION_MNIST], ids=lambda facts: facts.name)


@both
def test_every_file_has_its_checksums(facts):
    for checksums in (facts.sha256, facts.sample_sha256):
        assert tuple(checksums) == FILES
        assert all(re.fullmatch("[0-9a-f]{64}", checksum) for checksum in checksums.values())


@both
def test_there_are_ten_classes_with_different_names(facts):
    assert len(set(facts.classes)) == 10


@both
def test_mirrors_are_folders_reached_by_https(facts):
    assert facts.mirrors
    assert all(re.fullmatch("https://[^ ]+/", mirror) for mirror in facts.mirrors)


def test_the_folders_are_torchvisions():
    assert (MNIST.folder, FASHION_MNIST.folder) == ("MNIST", "FashionMNIST")


def test_the_datasets_have_no_file_in_common():
    assert not set(MNIST.sha256.values()) & set(FASHION_MNIST.sha256.values())


def test_the_names_of_the_clothes_are_in_the_order_of_the_labels():
    from torchvision.datasets import FashionMNIST  # the independent reference

    assert list(FASHION_MNIST.classes) == FashionMNIST.classes
