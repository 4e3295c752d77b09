"""Pictures as people take them: once framed, they are read by the ready weights."""

import io

import numpy as np
import pytest
from pictures.kinds import CLOTHES, DIGITS, HANDWRITING, KINDS, Kind
from PIL import Image
from sklearn.datasets import load_digits

import lightning_cnn as lc
from lightning_cnn.data import sources
from lightning_cnn.data.facts import DatasetFacts
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.image_files import decode
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.data.pillow_images import ImageFileError
from lightning_cnn.predict.framing import Framed, frame

#: The pictures that are drawn of each kind: of 1, 8, 5, 2 and 9, if these are digits.
NUMBERS = range(11, 80, 17)


class Reader:
    """Ready weights, and the images of the sample that ships with the package."""

    def __init__(self, facts: DatasetFacts, weights: str) -> None:
        self.facts, self.sample, self._classifier = facts, sources.load_sample(facts), lc.load(weights)

    def read(self, pictures: list[Image.Image]) -> list[int]:
        """Return the labels of pictures, after framing."""
        framed = [framed_file(picture, self.facts).pixels for picture in pictures]
        return self._classifier(np.stack(framed)[:, None]).argmax(axis=1).tolist()


def framed_file(picture: Image.Image, facts: DatasetFacts) -> Framed:
    file = io.BytesIO()
    picture.save(file, "PNG" if picture.mode == "RGBA" else "BMP")  # which takes less time
    return frame(decode(file.getvalue(), None if facts.framing.by_mass else "white"), facts.framing)


@pytest.fixture(scope="module")
def readers() -> dict[str, Reader]:
    digits = Reader(MNIST, "mnist")
    return {DIGITS: digits, HANDWRITING: digits, CLOTHES: Reader(FASHION_MNIST, "fashion_mnist")}


def images_of(kind: Kind, reader: Reader) -> tuple[np.ndarray, np.ndarray]:
    if kind.subject == HANDWRITING:
        return np.rint(load_digits().images * 255 / 16).astype(np.uint8), load_digits().target
    return reader.sample.test_images, reader.sample.test_labels


@pytest.mark.parametrize(
    "kind",
    [kind for kind in KINDS.values() if not kind.is_unclear],
    ids=lambda kind: kind.name,
)
def test_pictures_are_framed_like_the_images_that_they_show(kind, readers):
    reader = readers[kind.subject]
    images, labels = images_of(kind, reader)

    read = reader.read([kind.picture(images, number) for number in NUMBERS])

    assert read == labels[list(NUMBERS)].tolist()


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.is_unclear], ids=lambda kind: kind.name)
def test_pictures_without_a_right_answer_are_unclear_or_blank(kind, readers):
    images, _ = images_of(kind, readers[kind.subject])

    told = 0
    for number in NUMBERS:
        try:
            told += bool(framed_file(kind.picture(images, number), MNIST).unclear)
        except ImageFileError:
            told += 1
    assert told == len(NUMBERS)


@pytest.mark.parametrize("name", ["black_on_white", "white_on_black", "soft_on_white", "ruled_paper", "dust"])
def test_plain_pictures_are_clear(name, readers):
    kind = KINDS[name]
    images, _ = images_of(kind, readers[kind.subject])

    assert [framed_file(kind.picture(images, number), MNIST).unclear for number in NUMBERS] == [""] * len(NUMBERS)
