import numpy as np
import pytest
from drawing import CLASSES, LONG_CLASSES, assert_no_text_is_clipped_or_overlaps, images
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from lightning_cnn.plots import figures
from lightning_cnn.plots.evaluation import Predictions


def predicted(
    targets: list[int], guesses: list[int], confidence: ArrayLike = 0.5, names: tuple[str, ...] = CLASSES
) -> Predictions:
    """Predictions in descending order of their loss."""
    n = len(targets)
    confidences = np.broadcast_to(np.asarray(confidence, dtype=np.float64), n)
    return Predictions(names, np.array(targets), np.array(guesses), confidences, np.arange(n, 0.0, -1), np.arange(n))


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.images]


def test_samples_show_each_image_under_its_class_name_on_one_scale() -> None:
    pixels = images(12).astype(np.float32) / 127.5 - 1
    figure = figures.samples(pixels, np.arange(12) % 3, CLASSES)
    assert titles(figure) == list(CLASSES) * 4
    cells = [axes for axes in figure.axes if axes.images]
    for axes, image in zip(cells, pixels, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), image)
        assert axes.images[0].get_clim() == (pixels.min(), pixels.max())


def test_predictions_show_original_grey_values_with_both_names() -> None:
    pixels = images(2)
    figure = figures.predictions(pixels, predicted([0, 2, 1], [0, 1, 1]))
    assert titles(figure) == [
        "✓ correct\ntrue: T-shirt/top\npredicted: T-shirt/top",
        "✗ wrong\ntrue: Ankle boot\npredicted: Trouser",
    ]
    assert figure.get_suptitle() == "Test images: 1 of 2 correct"
    for axes, image in zip(figure.axes, pixels, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), image)
        assert axes.images[0].get_clim() == (0, 255)


def test_correct_and_wrong_predictions_differ_in_more_than_colour() -> None:
    correct, wrong = figures.predictions(images(2), predicted([0, 2], [0, 1])).axes
    assert {spine.get_linestyle() for spine in correct.spines.values()} == {"solid"}
    assert {spine.get_linestyle() for spine in wrong.spines.values()} == {"dashed"}
    assert correct.get_title().splitlines()[0] != wrong.get_title().splitlines()[0]


@pytest.mark.parametrize("n", [1, 2, 12])
def test_long_titles_of_images_do_not_overlap(n: int) -> None:
    labels, results = np.arange(n) % 3, predicted([*np.arange(n) % 3], [0] * n, names=LONG_CLASSES)
    assert_no_text_is_clipped_or_overlaps(figures.samples(images(n), labels, LONG_CLASSES))
    assert_no_text_is_clipped_or_overlaps(figures.predictions(images(n), results))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((images(2), [0]), r"labels must have one entry for each of the 2 images, got \(1,\)"),
        ((images(0), []), r"images must have the shape \(N, H, W\) and not be empty, got \(0, 28, 28\)"),
        ((images(2)[:, None], [0, 0]), r"images must have the shape \(N, H, W\)"),
    ],
)
def test_samples_refuse_other_shapes(arguments: tuple[NDArray[np.uint8], list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        figures.samples(*arguments, CLASSES)


def test_more_images_than_predictions_or_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="there must not be more images than predictions, got 3 and 2"):
        figures.predictions(images(3), predicted([0, 1], [0, 2]))
    with pytest.raises(ValueError, match="there must not be more images than mistakes, got 2 and 1"):
        figures.mistakes(images(2), predicted([0, 1], [0, 2]))
    with pytest.raises(ValueError, match="and not be empty"):
        figures.mistakes(images(0), predicted([0, 1], [0, 2]))


def test_the_worst_mistakes_are_shown_and_correct_predictions_are_not() -> None:
    pixels = images(3)
    figure = figures.mistakes(pixels, predicted([2, 1, 0, 1], [0, 1, 1, 2], [0.9994, 0.25, 0.5, 1]))
    assert titles(figure) == [
        "true: Ankle boot\npredicted: T-shirt/top\nconfidence: 99.9 %",
        "true: T-shirt/top\npredicted: Trouser\nconfidence: 50.0 %",
        "true: Trouser\npredicted: Ankle boot\nconfidence: 100.0 %",
    ]
    for axes, image in zip(figure.axes, pixels, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), image)
        assert axes.images[0].get_clim() == (0, 255)


@pytest.mark.parametrize("n", [1, 5, 16])
@pytest.mark.parametrize("names", [CLASSES, LONG_CLASSES])
def test_titles_of_mistakes_do_not_overlap(n: int, names: tuple[str, ...]) -> None:
    labels = np.arange(n) % 3
    assert_no_text_is_clipped_or_overlaps(
        figures.mistakes(images(n), predicted([*labels], [*(labels + 1) % 3], 1, names))
    )


def test_the_confidence_of_a_diverged_network_is_nan() -> None:
    figure = figures.mistakes(images(1), predicted([0], [1], np.nan))

    assert "confidence: nan %" in figure.axes[0].get_title()


def photographs(n: int) -> list[NDArray[np.uint8]]:
    shapes = [(40, 200), (300, 20), (28, 28), (1, 1)]
    return [np.full((*shapes[i % 4], 3), 250 - i, dtype=np.uint8) for i in range(n)]


def test_seen_shows_each_original_in_its_proportions_left_of_what_the_network_sees() -> None:
    originals, pixels = photographs(4), images(4)
    figure = figures.seen([[original] for original in originals], pixels, ["a", "b", "c", "d"])
    assert titles(figure) == ["a", "b", "c", "d"]
    for axes, original, image in zip(figure.axes, originals, pixels, strict=True):
        left, right = axes.images
        np.testing.assert_array_equal(left.get_array(), original)
        np.testing.assert_array_equal(right.get_array(), image)
        assert right.get_clim() == (0, 255)
        x0, x1, bottom, top = left.get_extent()
        assert (bottom - top) / (x1 - x0) == pytest.approx(original.shape[0] / original.shape[1])
        assert axes.get_aspect() == 1
        assert axes.get_xlim()[0] <= x0 < x1 < right.get_extent()[0] < right.get_extent()[1] <= axes.get_xlim()[1]


def test_long_captions_lose_their_middle_and_keep_the_ending() -> None:
    figure = figures.seen(
        [photographs(1)], images(1), ["a very long name of a photograph of a boot.jpeg\nBag, $x$ 98.0 %"]
    )
    name, class_name = figure.axes[0].get_title().splitlines()
    assert name.startswith("a very long") and name.endswith("boot.jpeg") and "…" in name
    assert class_name == "Bag, $x$ 98.0 %"


@pytest.mark.parametrize("n", [1, 2, 3, 16])
def test_captions_do_not_overlap(n: int) -> None:
    captions = [f"{'IMG_0123456789_' * 5}.JPG\n{LONG_CLASSES[i % 3]}, 99.9 %" for i in range(n)]
    assert_no_text_is_clipped_or_overlaps(
        figures.seen([[photo, photo] for photo in photographs(n)], images(n), captions)
    )


def test_seen_refuses_other_shapes_and_lengths() -> None:
    with pytest.raises(ValueError, match=r"seen must have the shape \(N, H, W\) and not be empty"):
        figures.seen([], images(0), [])
    with pytest.raises(ValueError, match="steps and a caption for each of the 2 images seen, got 1 and 2"):
        figures.seen([photographs(1)], images(2), ["a", "b"])
    with pytest.raises(ValueError, match="for each of the 2 images seen, got 2 and 1"):
        figures.seen([photographs(1)] * 2, images(2), ["a"])
    with pytest.raises(ValueError, match=r"steps must have the shape \(h, w, 3\), got \(28, 28\)"):
        figures.seen([photographs(1), images(1)], images(2), ["a", "b"])
