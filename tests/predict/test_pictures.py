"""Pictures as people take them: once framed, they are like an image of their class."""

import io

import numpy as np
import pytest
from pictures.kinds import CLOTHES, DIGITS, HANDWRITING, KINDS, Kind
from sklearn.datasets import load_digits

from lightning_cnn.data import sources
from lightning_cnn.data.facts import DatasetFacts
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.image_files import decode
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.predict.framing import frame

FACTS = {DIGITS: MNIST, HANDWRITING: MNIST, CLOTHES: FASHION_MNIST}
#: The pictures that are drawn of each kind: of 0, 3, 6, 9 and 2, if these are digits.
NUMBERS = range(0, 65, 13)
#: How many of them must be like an image of their class; all of them, unless it says something else.
FLOORS: dict[str, int] = {}


class Known:
    """The images of the sample that ships with the package, to which others are compared."""

    def __init__(self, facts: DatasetFacts) -> None:
        sample = sources.load_sample(facts)
        self.images, self.labels = sample.test_images, sample.test_labels
        self._normed = _normed(np.concatenate([sample.test_images, sample.train_images]))
        self._labels = np.concatenate([sample.test_labels, sample.train_labels])

    def nearest(self, pixels: np.ndarray) -> int:
        """Return the label of the image with the highest correlation, shifted by a pixel at most."""
        shifted = [np.roll(pixels, (y, x), axis=(0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        return int(self._labels[(self._normed @ _normed(np.stack(shifted)).T).max(axis=1).argmax()])


def _normed(images: np.ndarray) -> np.ndarray:
    flat = images.reshape(len(images), -1).astype(np.float32)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def known() -> dict[str, Known]:
    return {facts.name: Known(facts) for facts in (MNIST, FASHION_MNIST)}


def draw(kind: Kind, known: Known, number: int) -> tuple[bytes, int]:
    """Return the file of a picture, and the label of what is on it."""
    images, labels = known.images, known.labels
    if kind.subject == HANDWRITING:
        images, labels = np.rint(load_digits().images * 255 / 16).astype(np.uint8), load_digits().target
    picture, file = kind.picture(images, number), io.BytesIO()
    picture.save(file, "PNG" if picture.mode == "RGBA" else "BMP")  # which takes less time
    return file.getvalue(), int(labels[number])


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if not kind.is_unclear], ids=lambda kind: kind.name)
def test_pictures_are_framed_like_the_images_that_they_show(kind, known):
    facts = FACTS[kind.subject]
    drawn = [draw(kind, known[facts.name], number) for number in NUMBERS]

    seen = [known[facts.name].nearest(frame(decode(file), facts.framing)) for file, _ in drawn]

    right = sum(label == target for label, (_, target) in zip(seen, drawn, strict=True))
    assert right >= FLOORS.get(kind.name, len(NUMBERS)), seen
