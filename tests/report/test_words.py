import math

import pytest

from lightning_cnn.report.words import NOTHING, count, figure, percent


def test_shares_are_percent_and_losses_have_four_digits():
    assert percent(0.8952999711036682) == "89.53 %"
    assert percent(1) == "100.00 %"
    assert figure(0.29576778411865234) == "0.2958"
    assert figure(math.inf) == "inf"


def test_what_is_no_number_is_nothing():
    assert percent(math.nan) == figure(math.nan) == NOTHING


@pytest.mark.parametrize(
    ("words", "expected"),
    [((1, "epoch"), "1 epoch"), ((0, "time"), "0 times"), ((10_000, "image"), "10,000 images"),
     ((2, "class", "classes"), "2 classes"), ((1, "class", "classes"), "1 class")],
)  # fmt: skip
def test_one_and_many(words, expected):
    assert count(*words) == expected
