import numpy as np
import pytest
from pictures.kinds import CLOTHES, DIGITS, HANDWRITING, KINDS

from lightning_cnn.data import sources
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST


@pytest.fixture(scope="module")
def images() -> dict[str, np.ndarray]:
    digits, clothes = (sources.load_sample(facts).test_images for facts in (MNIST, FASHION_MNIST))
    return {DIGITS: digits, CLOTHES: clothes, HANDWRITING: digits[:, 4:24:2, 4:24:2][:, :8, :8]}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_picture_depends_on_its_number_and_seed_only(kind, images):
    first, again = (kind.picture(images[kind.subject], 3) for _ in range(2))

    assert first == again
    assert np.ptp(np.asarray(first).reshape(-1, len(first.getbands())), axis=0).max() > 60


def test_numbers_and_seeds_give_other_pictures(images):
    one, two, three = (KINDS["dust"].picture(images[DIGITS], *which) for which in ((3, 0), (13, 0), (3, 1)))

    assert one != two != three != one
