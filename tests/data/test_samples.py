from pathlib import Path

import numpy as np
import pytest

from lightning_cnn.data import sources
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST

SAMPLES = Path(sources.__file__).parent / "samples"

both = pytest.mark.parametrize("facts", [MNIST, FASHION_MNIST], ids=lambda facts: facts.name)


@both
def test_the_sample_is_valid_and_balanced(facts):
    sample = sources.load_sample(facts)

    assert sample.is_sample
    assert np.bincount(sample.train_labels).tolist() == [200] * 10
    assert np.bincount(sample.test_labels).tolist() == [50] * 10
    assert np.bincount(sample.train_labels[:100]).tolist() == [10] * 10  # also at the start of it


@both
def test_the_images_of_the_sample_are_distinct(facts):
    sample = sources.load_sample(facts)

    images = [image.tobytes() for image in (*sample.train_images, *sample.test_images)]

    assert len(set(images)) == len(images) == 2500


@both
def test_the_images_have_the_statistics_of_the_dataset(facts):
    images = sources.load_sample(facts).train_images / 255

    # 2,000 images have nearly the mean and deviation of the 60,000.
    assert images.mean() == pytest.approx(facts.mean, abs=0.01)
    assert images.std() == pytest.approx(facts.std, abs=0.01)


@both
def test_using_the_sample_prints_a_warning(facts, capsys):
    sources.load_sample(facts)

    announced = capsys.readouterr().err
    assert "THIS IS A SAMPLE of 2,500 images" in announced
    assert "cannot be compared with published" in announced
    assert ("come from MNIST's training set" in announced) == (facts is MNIST)


@both
def test_the_licence_is_included(facts):
    licence = (SAMPLES / facts.name / "LICENSE").read_text(encoding="utf-8")

    expected = {"mnist": "https://creativecommons.org/licenses/by-sa/3.0/", "fashion_mnist": "(c) 2017 Zalando SE"}
    assert expected[facts.name] in licence


def test_the_samples_are_small():
    sizes = [path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()]

    assert len(sizes) == 2 * 5
    assert sum(sizes) <= 2 * 10**6
    assert max(sizes) < 1.1 * 10**6


@both
def test_the_samples_are_subsets_of_the_datasets(real_data_dir, facts):
    sample, whole = sources.load_sample(facts), sources.load(facts, real_data_dir)

    train = labels_by_image(whole.train_images, whole.train_labels)
    test = train if facts is MNIST else labels_by_image(whole.test_images, whole.test_labels)

    assert labels_by_image(sample.train_images, sample.train_labels).items() <= train.items()
    assert labels_by_image(sample.test_images, sample.test_labels).items() <= test.items()


def labels_by_image(images: np.ndarray, labels: np.ndarray) -> dict[bytes, int]:
    return {image.tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
