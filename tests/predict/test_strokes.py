import numpy as np
import pytest

from lightning_cnn.predict.strokes import stroke_thickness, thinned


def bar(thickness: int, length: int = 100) -> np.ndarray:
    """Return a cross of two bars."""
    ink = np.zeros((length, length), np.float32)
    start = (length - thickness) // 2
    ink[start : start + thickness] = 1
    ink[:, start : start + thickness] = 1
    return ink


@pytest.mark.parametrize("thickness", [6, 11, 20, 31])
def test_the_thickness_of_bars_is_measured(thickness):
    assert stroke_thickness(bar(thickness) > 0) == pytest.approx(thickness, abs=2)


def test_strokes_like_those_of_the_training_images_are_left():
    ink = bar(18)  # 3.6 pixels of 20

    assert thinned(ink, side=20) is ink


def test_thick_strokes_become_thin_and_gaps_between_them_wide():
    ink = bar(40)

    thin = thinned(ink, side=20)

    assert stroke_thickness(thin > 0) / (max(thin.shape) / 20) < 5
    assert 60 <= max(thin.shape) < 100  # the ends become shorter by half of the excess, too


def test_strokes_of_a_few_pixels_are_left():
    ink = bar(7, length=20)

    assert thinned(ink, side=20) is ink


def test_a_blob_is_not_lost():
    assert thinned(np.ones((90, 90), np.float32), side=20).any()


def test_grey_values_are_kept():
    ink = bar(40) * np.float32(0.5)

    thin = thinned(ink, side=20)

    assert thin.max() == 0.5
    assert np.mean((thin == 0) | (thin == 0.5)) > 0.95  # all but the edges
