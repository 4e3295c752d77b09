import numpy as np
import pytest
from scipy import ndimage

from lightning_cnn.predict.morphology import closed, dilated, dilated_by_cross, eroded_by_cross

SHAPES = [(30, 41), (1, 20), (20, 1)]


@pytest.fixture(params=SHAPES, ids=str)
def pixels(request):
    return np.random.default_rng(0).random(request.param, dtype=np.float32)


@pytest.mark.parametrize("times", [1, 3])
def test_masks_grow_and_shrink_as_by_scipy(pixels, times):
    mask = pixels < 0.1

    assert np.array_equal(dilated(mask, times), ndimage.maximum_filter(mask, 2 * times + 1, mode="constant"))
    assert np.array_equal(dilated_by_cross(mask, times), ndimage.binary_dilation(mask, iterations=times))
    assert np.array_equal(
        eroded_by_cross(~mask, times), ndimage.binary_erosion(~mask, iterations=times, border_value=1)
    )


@pytest.mark.parametrize("size", [1, 3, 7, 21])
def test_closing_is_scipys_on_a_picture_that_goes_on_as_at_its_rim(pixels, size):
    around = np.pad(pixels, 2 * size, mode="edge")
    expected = ndimage.grey_closing(around, size)[2 * size : -2 * size, 2 * size : -2 * size]

    assert np.array_equal(closed(pixels, size), expected)
