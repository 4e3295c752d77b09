import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from lightning_cnn import plots

CLASSES = ("T-shirt/top", "Trouser", "Ankle boot")
LONG_CLASSES = ("Donaudampfschifffahrtsgesellschaftskapitän", "a name of several words that is long", "$x$ and $y$")


def images(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, size=(n, 28, 28), dtype=np.uint8)


def assert_no_text_is_clipped_or_overlaps(figure: Figure) -> None:
    FigureCanvasAgg(figure).draw()
    ticks = {label for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())}
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    boxes = [text.get_window_extent() for text in texts if text not in ticks]
    assert boxes
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:i])


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.images]


def test_samples_show_each_image_under_its_class_name_on_one_scale() -> None:
    pixels = images(12).astype(np.float32) / 127.5 - 1
    figure = plots.samples(pixels, np.arange(12) % 3, CLASSES)
    assert titles(figure) == list(CLASSES) * 4
    cells = [axes for axes in figure.axes if axes.images]
    for axes, image in zip(cells, pixels, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), image)
        assert axes.images[0].get_clim() == (pixels.min(), pixels.max())


def test_predictions_show_original_grey_values_with_both_names() -> None:
    pixels = images(2)
    figure = plots.predictions(pixels, [0, 2], [0, 1], CLASSES)
    assert titles(figure) == [
        "✓ correct\ntrue: T-shirt/top\npredicted: T-shirt/top",
        "✗ wrong\ntrue: Ankle boot\npredicted: Trouser",
    ]
    assert figure.get_suptitle() == "Test images: 1 of 2 correct"
    for axes, image in zip(figure.axes, pixels, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), image)
        assert axes.images[0].get_clim() == (0, 255)


def test_right_and_wrong_differ_in_more_than_colour() -> None:
    right, wrong = plots.predictions(images(2), [0, 2], [0, 1], CLASSES).axes
    assert {spine.get_linestyle() for spine in right.spines.values()} == {"solid"}
    assert {spine.get_linestyle() for spine in wrong.spines.values()} == {"dashed"}
    assert right.get_title().splitlines()[0] != wrong.get_title().splitlines()[0]


@pytest.mark.parametrize("n", [1, 2, 4, 12])
@pytest.mark.parametrize("names", [CLASSES, LONG_CLASSES])
def test_titles_of_images_have_room(n: int, names: tuple[str, ...]) -> None:
    labels = np.arange(n) % 3
    assert_no_text_is_clipped_or_overlaps(plots.samples(images(n), labels, names))
    assert_no_text_is_clipped_or_overlaps(plots.predictions(images(n), labels, np.zeros(n, int), names))


def test_history_plots_the_given_numbers_over_epochs_from_one() -> None:
    figure = plots.history([2.0, 1.0], [0.25, 0.5], [1.5, 1.25], [0.375, 0.75])
    assert {axes.get_title(loc="left"): axes.lines[0].get_xydata().tolist() for axes in figure.axes} == {
        "Training loss": [[1, 2.0], [2, 1.0]],
        "Training accuracy": [[1, 25.0], [2, 50.0]],
        "Validation loss": [[1, 1.5], [2, 1.25]],
        "Validation accuracy": [[1, 37.5], [2, 75.0]],
    }
    assert [axes.get_title(loc="right") for axes in figure.axes] == [
        "last: 1.0000",
        "last: 1.2500",
        "last: 50.00 %",
        "last: 75.00 %",
    ]


def test_history_leaves_out_what_was_not_measured() -> None:
    nan = np.nan
    figure = plots.history([1, 2, 3], [0, 0.5, 1], [nan, nan, nan], [nan, 0.5, nan])
    drawn = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert drawn["Validation loss"].get_title(loc="right") == "not measured"
    assert drawn["Validation accuracy"].lines[0].get_xydata().tolist() == [[2, 50.0]]


@pytest.mark.parametrize("n", [1, 2, 20])
def test_epochs_are_whole_and_every_point_is_visible(n: int) -> None:
    values = np.linspace(0.1, 0.9, n)
    figure = plots.history(values, values, values, values)
    assert_no_text_is_clipped_or_overlaps(figure)
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert low < 1
        assert high > n
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks
        assert all(tick == round(tick) for tick in ticks)
        assert axes.lines[0].get_marker() == "o"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((images(2), [0]), r"labels must have one entry for each of the 2 images, got the shape \(1,\)"),
        ((images(0), []), r"images must have the shape \(N, H, W\) with at least one image, got \(0, 28, 28\)"),
        ((images(2)[:, None], [0, 0]), r"images must have the shape \(N, H, W\)"),
        ((images(2), [0, 3]), r"labels must be between 0 and 2, got \[0, 3\]"),
        ((images(2), [-1, 0]), r"labels must be between 0 and 2, got \[-1, 0\]"),
    ],
)
def test_samples_refuse_what_does_not_fit(arguments: tuple[NDArray[np.uint8], list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.samples(*arguments, CLASSES)


@pytest.mark.parametrize(("targets", "predicted", "what"), [([0], [0, 1], "targets"), ([0, 1], [0, 1, 2], "predicted")])
def test_predictions_refuse_other_lengths(targets: list[int], predicted: list[int], what: str) -> None:
    with pytest.raises(ValueError, match=f"{what} must have one entry for each of the 2 images"):
        plots.predictions(images(2), targets, predicted, CLASSES)


@pytest.mark.parametrize("curves", [([1], [1], [1], [1, 2]), ([], [], [], []), ([[1]], [[1]], [[1]], [[1]])])
def test_history_refuses_curves_of_different_length_or_none(curves: tuple[list[float], ...]) -> None:
    with pytest.raises(ValueError, match=r"the four curves must have one shape \(E,\) with at least one epoch"):
        plots.history(*curves)
