import numpy as np
import pytest
from drawing import LONG_CLASSES, assert_no_text_is_clipped_or_overlaps, images

from lightning_cnn.plots import figures


@pytest.mark.parametrize(("n", "shape"), [(1, (3, 3)), (6, (3, 7)), (32, (5, 5)), (64, (3, 3)), (65, (3, 3))])
def test_filters_are_shown_on_one_scale_around_zero(n: int, shape: tuple[int, int]) -> None:
    weights = np.random.default_rng(0).normal(loc=1, size=(n, *shape))
    figure = figures.filters(weights, "Filters of a first layer whose name is long")
    axes, colorbar = figure.axes
    limit = np.abs(weights[:64]).max()
    assert [image.get_clim() for image in axes.images] == [(-limit, limit)] * min(n, 64)
    for image, values in zip(axes.images, weights, strict=False):
        np.testing.assert_array_equal(image.get_array(), values)
    assert colorbar.get_ylabel() == "weight"
    assert ("the first 64 of 65" in axes.get_title().replace("\n", " ")) == (n == 65)
    assert_no_text_is_clipped_or_overlaps(figure)


def test_filters_of_zeros_have_a_scale() -> None:
    assert figures.filters(np.zeros((1, 3, 3)), "Filters").axes[0].images[0].get_clim() == (-1, 1)


@pytest.mark.parametrize("shape", [(0, 3, 3), (3, 3), (2, 1, 3, 3)])
def test_filters_refuse_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"weights must have the shape \(K, h, w\) and not be empty"):
        figures.filters(np.zeros(shape), "Filters")


def test_feature_maps_are_a_row_for_each_layer_on_its_own_scale() -> None:
    rng = np.random.default_rng(0)
    image, many, few = images(1)[0], rng.normal(size=(20, 14, 14)), 100 * rng.normal(size=(3, 7, 5))
    first, upper, lower = figures.feature_maps(image, {"conv1": many, "conv2": few}).axes
    np.testing.assert_array_equal(first.images[0].get_array(), image)
    assert upper.get_title(loc="left") == "conv1: 16 of 20 maps, 14 × 14"
    assert lower.get_title(loc="left") == "conv2: 3 of 3 maps, 7 × 5"
    assert [i.get_clim() for i in upper.images] == [(many[:16].min(), many[:16].max())] * 16
    assert [i.get_clim() for i in lower.images] == [(few.min(), few.max())] * 3
    np.testing.assert_array_equal(upper.images[15].get_array(), many[15])
    assert upper.get_xlim() == lower.get_xlim()
    assert len({i.get_extent()[3] for i in upper.images}) == 1


@pytest.mark.parametrize(("layers", "maps"), [(1, 1), (2, 16), (8, 7)])
def test_names_of_layers_do_not_overlap(layers: int, maps: int) -> None:
    rows = {f"{i} {LONG_CLASSES[i % 3]}": np.ones((maps, 28, 28)) for i in range(layers)}
    assert_no_text_is_clipped_or_overlaps(figures.feature_maps(images(1)[0], rows))


def test_feature_maps_refuse_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"image must have the shape \(H, W\), got \(1, 28, 28\)"):
        figures.feature_maps(images(1), {"conv": images(1)})
    with pytest.raises(ValueError, match="layers must have at least one layer"):
        figures.feature_maps(images(1)[0], {})
    with pytest.raises(ValueError, match=r"layer 'fc' must have the shape \(K, h, w\) and not be empty, got \(50,\)"):
        figures.feature_maps(images(1)[0], {"fc": np.zeros(50)})
