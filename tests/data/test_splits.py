import itertools

import numpy as np
import pytest

from lightning_cnn.data.splits import number_of, require_share, stratified_fold, stratified_split
from lightning_cnn.errors import UserError


@pytest.mark.parametrize("val_size", [1, 7, 50, 199])
def test_the_split_is_disjoint_and_complete(val_size):
    labels = np.random.default_rng(3).integers(10, size=200).astype(np.uint8)

    train, val = stratified_split(labels, val_size)

    assert len(val) == val_size
    assert sorted([*train, *val]) == list(range(200))


def test_each_class_has_its_share_to_within_one_image():
    labels = np.repeat(np.arange(4), [100, 51, 30, 2]).astype(np.uint8)

    _, val = stratified_split(labels, 40)

    shares = 40 * np.array([100, 51, 30, 2]) / 183
    assert np.abs(np.bincount(labels[val], minlength=4) - shares).max() < 1


def test_the_split_is_the_same_on_every_machine():
    # Literal, so that a change in the generator of any library is noticed: it would change every published accuracy.
    train, val = stratified_split(np.array([0] * 7 + [1] * 5 + [2] * 3, dtype=np.uint8), 4)

    assert val.tolist() == [2, 4, 11, 12]
    assert train.tolist() == [0, 1, 3, 5, 6, 7, 8, 9, 10, 13, 14]


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_each_image_is_validated_on_in_exactly_one_fold(folds):
    labels = np.random.default_rng(3).integers(10, size=200).astype(np.uint8)

    parts = [stratified_fold(labels, folds, fold) for fold in range(folds)]

    assert sorted(itertools.chain.from_iterable(val for _, val in parts)) == list(range(200))
    for train, val in parts:
        assert sorted([*train, *val]) == list(range(200))
        assert abs(len(val) - 200 / folds) < 1
        assert np.abs(np.bincount(labels[val], minlength=10) - np.bincount(labels) / folds).max() < 1


def test_the_folds_are_the_same_on_every_machine():
    val = [stratified_fold(np.array([0] * 4 + [1] * 3, dtype=np.uint8), 2, fold)[1].tolist() for fold in range(2)]

    assert val == [[1, 2, 4, 6], [0, 3, 5]]


def test_a_class_with_one_image_is_in_one_part():
    train, val = stratified_split(np.array([0] * 10 + [1] * 10 + [2]), 2)

    assert (val < 20).all() and 20 in train


@pytest.mark.parametrize(
    ("share", "images", "number"), [(7, 20, 7), (0.1, 200, 20), (0.5, 3, 2), (0.26, 2, 1), (19, 20, 19)]
)
def test_a_share_is_rounded_to_images(share, images, number):
    assert number_of(share, images) == number


@pytest.mark.parametrize(
    ("share", "images", "message"),
    [
        (0, 20, "val_size must be between 1 and 19, got 0"),
        (20, 20, "val_size must be between 1 and 19, got 20"),
        (
            0.1,
            4,
            "val_size must be between 1 and 3, got 0.1, which is 0 of 4 images; add images, or give another share",
        ),
        (
            0.99,
            4,
            "val_size must be between 1 and 3, got 0.99, which is 4 of 4 images; add images, or give another share",
        ),
        (0.1, 1, "val_size 0.1: 1 image cannot be split; add some"),
        (3, 0, "val_size 3: 0 images cannot be split; add some"),
    ],
)
def test_a_number_that_leaves_no_images_is_refused(share, images, message):
    with pytest.raises(UserError) as caught:
        number_of(share, images)
    assert str(caught.value) == message
    with pytest.raises(UserError, match=r"^test_size "):
        number_of(share, images, "test_size")


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 5.0, float("nan"), float("inf")])
def test_a_share_is_between_0_and_1(share):
    with pytest.raises(ValueError, match=r"^val_size must be a number of images, or a share between 0 and 1, got "):
        require_share("val_size", share)
    require_share("val_size", 0.5)
    require_share("val_size", 500)
