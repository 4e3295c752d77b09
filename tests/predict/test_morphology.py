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


@pytest.mark.parametrize("size", [1, 3, 7])
def test_inside_of_a_picture_closing_is_scipys(size):
    pixels = np.ones((30, 41), np.float32)
    pixels[8:-8, 8:-8] = np.random.default_rng(0).random((14, 25))

    assert np.array_equal(closed(pixels, size), ndimage.grey_closing(pixels, size, mode="nearest"))


def test_ink_that_touches_the_rim_is_filled_and_falling_light_is_kept():
    light = np.tile(np.linspace(1, 0.4, 60, dtype=np.float32), (60, 1))
    page = light.copy()
    page[50:, 20:45] = page[:5, 30:36] = page[20:30, 55:] = 0

    paper = closed(page, 21)

    assert np.array_equal(closed(light, 21), light)
    assert np.abs(paper - light).max() < 0.3
    assert paper[59, 30] > 0.3
