import math

import pytest
from jinja2 import UndefinedError

from lightning_cnn.report.template import NOTHING, breakable, count, decimal, percent, render, whole


def test_a_missing_variable_of_a_template_raises():
    with pytest.raises(UndefinedError):
        render("run.html")


def test_lines_may_end_after_separators_and_the_text_is_escaped():
    assert breakable("a/b.c_d-e_0") == "a/<wbr>b.<wbr>c_<wbr>d-<wbr>e_0"
    assert breakable("<b>/&") == "&lt;b&gt;/<wbr>&amp;"


def test_accuracies_are_percent_and_losses_have_four_digits():
    assert percent(0.8952999711036682) == "89.53 %"
    assert percent(1) == "100.00 %"
    assert decimal(0.29576778411865234) == "0.2958"
    assert decimal(math.inf) == "inf"
    assert whole(402986) == "402,986"


def test_nan_is_a_dash():
    assert percent(math.nan) == decimal(math.nan) == whole(math.nan) == NOTHING


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((1, "epoch"), "1 epoch"), ((0, "time"), "0 times"), ((10_000, "image"), "10,000 images"),
     ((2, "class", "classes"), "2 classes"), ((1, "class", "classes"), "1 class")],
)  # fmt: skip
def test_counts_have_a_singular_and_a_plural(arguments, expected):
    assert count(*arguments) == expected
