"""Pictures as people take them: once framed, they are read by what has learnt the official images."""

import io

import numpy as np
import pytest
from pictures.kinds import CLOTHES, DIGITS, HANDWRITING, KINDS, Kind
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from lightning_cnn.data import sources
from lightning_cnn.data.facts import DatasetFacts
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.image_files import decode
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.data.pillow_images import ImageFileError
from lightning_cnn.predict.framing import Framed, frame

#: The pictures that are drawn of each kind: of 1, 8, 5, 2 and 9, if these are digits.
NUMBERS = range(1, 70, 17)
#: How many of them must be read, if not all.
FLOORS = {
    "clothes_on_grey": 4,
    "clothes_on_wood": 3,
    "clothes_soft_shadow": 4,
    "handwriting_200px": 4,
    "several_digits": 4,
}


class Reader:
    """A support vector machine that has learnt the images of the sample that ships with the package, in a second."""

    def __init__(self, facts: DatasetFacts) -> None:
        self.facts, self.sample = facts, sources.load_sample(facts)
        images = np.concatenate([self.sample.train_images, self.sample.test_images])
        labels = np.concatenate([self.sample.train_labels, self.sample.test_labels])
        self._machine = SVC(C=10).fit(_features(images), labels)

    def read(self, pictures: list[Image.Image]) -> list[int]:
        """Return the labels of pictures, after framing."""
        framed = [framed_file(picture, self.facts).pixels for picture in pictures]
        return self._machine.predict(_features(np.stack(framed))).tolist()


def _features(images: np.ndarray) -> np.ndarray:
    blurred = ndimage.gaussian_filter(images.astype(np.float32), (0, 1, 1)).reshape(len(images), -1)
    return blurred / np.linalg.norm(blurred, axis=1, keepdims=True)


def framed_file(picture: Image.Image, facts: DatasetFacts) -> Framed:
    file = io.BytesIO()
    picture.save(file, "PNG" if picture.mode == "RGBA" else "BMP")  # which takes less time
    return frame(decode(file.getvalue(), None if facts.framing.by_mass else "white"), facts.framing)


@pytest.fixture(scope="module")
def readers() -> dict[str, Reader]:
    digits = Reader(MNIST)
    return {DIGITS: digits, HANDWRITING: digits, CLOTHES: Reader(FASHION_MNIST)}


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

    right = sum(label == target for label, target in zip(read, labels[list(NUMBERS)], strict=True))
    assert right >= FLOORS.get(kind.name, len(NUMBERS)), read


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.is_unclear], ids=lambda kind: kind.name)
def test_pictures_without_a_right_answer_are_unclear_or_blank(kind, readers):
    images, _ = images_of(kind, readers[kind.subject])

    told = 0
    for number in NUMBERS:
        try:
            told += bool(framed_file(kind.picture(images, number), MNIST).unclear)
        except ImageFileError:
            told += 1
    assert told >= FLOORS.get(kind.name, len(NUMBERS))


@pytest.mark.parametrize("name", ["black_on_white", "white_on_black", "soft_on_white", "ruled_paper", "dust"])
def test_plain_pictures_are_clear(name, readers):
    kind = KINDS[name]
    images, _ = images_of(kind, readers[kind.subject])

    assert [framed_file(kind.picture(images, number), MNIST).unclear for number in NUMBERS] == [""] * len(NUMBERS)
