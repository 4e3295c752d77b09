import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

from lightning_cnn.plots import evaluation
from lightning_cnn.plots import images as plots

CLASSES = ("T-shirt/top", "Trouser", "Ankle boot")
LONG_CLASSES = ("Donaudampfschifffahrtsgesellschaftskapitän", "a name of several words that is long", "$x$ and $y$")


def images(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, size=(n, 28, 28), dtype=np.uint8)


def assert_no_text_is_clipped_or_overlaps(figure: Figure) -> None:
    FigureCanvasAgg(figure).draw()
    ticks = {label for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())}
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text() and text not in ticks]
    assert texts
    boxes = [text.get_window_extent() for text in texts]
    for i, (text, box) in enumerate(zip(texts, boxes, strict=True)):
        assert "$" not in text.get_text() or not text.get_parse_math()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        for other, other_box in zip(texts[:i], boxes, strict=False):
            if text.get_rotation() == other.get_rotation() == 45:
                assert_slanted_lines_are_apart(text, other)
            else:
                assert not box.overlaps(other_box), (text, other)


def assert_slanted_lines_are_apart(text: Text, other: Text) -> None:
    (x, y), (other_x, other_y) = (t.get_transform().transform(t.get_position()) for t in (text, other))
    assert y == other_y
    text.set_rotation(0)
    height = text.get_window_extent().height
    text.set_rotation(45)
    assert abs(x - other_x) * np.sin(np.pi / 4) > height


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


def curves(*val_acc: float) -> dict[str, NDArray[np.float64]]:
    values = np.array(val_acc)
    return {"train_loss": 1 - values, "train_acc": values, "val_loss": 1 - values, "val_acc": values}


def legend_texts(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_comparison_draws_each_run_over_its_own_epochs_under_its_own_style() -> None:
    nan = np.nan
    figure = plots.comparison({"short": curves(0.25, 0.5), "long": curves(0.5, nan, 0.75, 1.0)})
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert list(panels) == ["Training loss", "Validation loss", "Training accuracy", "Validation accuracy"]
    long, short = panels["Validation accuracy"].lines
    assert long.get_xydata().tolist() == [[1, 50.0], [3, 75.0], [4, 100.0]]
    assert short.get_xydata().tolist() == [[1, 25.0], [2, 50.0]]
    assert panels["Training loss"].lines[1].get_xydata().tolist() == [[1, 0.75], [2, 0.5]]
    for axes in figure.axes:
        assert [line.get_color() for line in axes.lines] == [long.get_color(), short.get_color()]
    handles = figure.legends[0].get_lines()
    assert [handle.get_color() for handle in handles] == [long.get_color(), short.get_color()]


def test_legend_of_a_comparison_is_sorted_by_the_last_measured_accuracy() -> None:
    nan = np.nan
    runs = {
        "none": curves(nan),
        "middle": curves(0.875, nan),
        "worst": curves(0.99, 0.5),
        "best": curves(0.1, 0.9),
    }
    labels = ["90.00 %  best", "87.50 %  middle", "50.00 %  worst", "not measured  none"]
    assert legend_texts(plots.comparison(runs)) == labels


@pytest.mark.parametrize("n", [1, 2, 8, 20])
def test_runs_differ_in_more_than_colour_and_the_legend_covers_no_curve(n: int) -> None:
    figure = plots.comparison({f"{i} {LONG_CLASSES[i % 3]}/version_{i}": curves(0.5 + i / 100) for i in range(n)})
    assert_no_text_is_clipped_or_overlaps(figure)
    box = figure.legends[0].get_window_extent()
    assert not any(box.overlaps(axes.get_tightbbox()) for axes in figure.axes)
    assert figure.axes[0].get_window_extent().height > 2 * figure.dpi  # and leaves them room
    assert [text.rpartition("_")[2] for text in legend_texts(figure)] == [str(i) for i in reversed(range(n))]
    styles = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in figure.axes[0].lines]
    assert len(set(styles)) == n
    assert len({color for color, _, _ in styles}) == min(n, 8)
    assert len({(marker, line) for _, marker, line in styles}) == n


def test_history_looks_like_a_comparison_of_one_run() -> None:
    run = curves(0.5, 0.75)
    alone, compared = plots.history(**run), plots.comparison({"run": run})
    for axes, other in zip(alone.axes, compared.axes, strict=True):
        assert axes.lines[0].get_xydata().tolist() == other.lines[0].get_xydata().tolist()
        assert axes.lines[0].get_color() == other.lines[0].get_color()


def test_comparison_refuses_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="runs must have at least one run"):
        plots.comparison({})
    with pytest.raises(ValueError, match="of run 'b', the curves train_acc, val_loss are missing"):
        plots.comparison({"a": curves(1), "b": {"train_loss": [1], "val_acc": [1]}})
    with pytest.raises(ValueError, match=r"of run 'b', the four curves must have one shape \(E,\)"):
        plots.comparison({"a": curves(1), "b": {**curves(1), "val_acc": [1, 2]}})


def confusion(n: int, images_of_a_class: int) -> NDArray[np.int64]:
    mistakes = np.random.default_rng(0).integers(0, 4, (n, n))
    return mistakes + images_of_a_class * np.eye(n, dtype=np.int64)


def names_of(n: int, long: bool) -> list[str]:
    return [f"{i} {LONG_CLASSES[i % 3]} {i}" if long else chr(ord("A") + i) for i in range(n)]


def outline(path: Path) -> NDArray[np.float64]:
    points = np.asarray(path.vertices)
    return points - points[0]


def cell_of(mesh: QuadMesh, place: NDArray[np.float64]) -> tuple[int, int]:
    """Row and column."""
    corners = mesh.get_coordinates()
    return int((corners[:, 0, 1] > place[1]).sum()) - 1, int((corners[0, :, 0] < place[0]).sum()) - 1


def assert_written(figure: Figure, number: int, expected: dict[tuple[int, int], str]) -> None:
    (mesh,) = figure.findobj(QuadMesh)
    written = figure.findobj(PathCollection)[number]
    cells = [cell_of(mesh, place) for place in written.get_offsets()]
    assert cells == list(expected)
    for path, text in zip(written.get_paths(), expected.values(), strict=True):
        np.testing.assert_allclose(outline(path), outline(TextPath((0, 0), text, size=1)), atol=1e-6)


def test_confusion_matrix_shows_counts_and_rates_of_rows() -> None:
    figure = plots.confusion_matrix([[900, 60, 40], [0, 0, 0], [1, 0, 1999]], CLASSES, "After epoch 3")
    (mesh,) = figure.findobj(QuadMesh)
    np.testing.assert_array_equal(mesh.get_array(), [[0.9, 0.06, 0.04], [0, 0, 0], [0.0005, 0, 0.9995]])
    assert (mesh.norm.vmin, mesh.norm.vmax) == (0, 1)
    counts = ["900", "60", "40", "0", "0", "0", "1", "0", "1,999"]
    assert_written(figure, 0, dict(zip(np.ndindex(3, 3), counts, strict=True)))
    rates = {(0, 0): "90.0 %", (0, 1): "6.0 %", (0, 2): "4.0 %", (2, 0): "0.1 %", (2, 2): "100.0 %"}
    assert_written(figure, 1, rates)
    assert "After epoch 3\n96.63 % of 3,000 correct" in [text.get_text() for text in figure.texts]


@pytest.mark.parametrize("n", [1, 2, 10, 26])
def test_confusion_matrix_names_rows_downwards_and_columns_to_the_right(n: int) -> None:
    names = names_of(n, long=False)
    figure = plots.confusion_matrix(confusion(n, 100), names)
    (mesh,) = figure.findobj(QuadMesh)
    corners = mesh.get_coordinates()
    named = [(text.get_text(), *text.get_position()) for text in figure.texts if text.get_text() in names]
    rows = [(name, y) for name, x, y in named if x < corners[0, 0, 0]]
    columns = [(name, x) for name, x, y in named if y < corners[-1, 0, 1]]
    assert [name for name, _ in rows] == [name for name, _ in columns] == names
    np.testing.assert_allclose([y for _, y in rows], (corners[:-1, 0, 1] + corners[1:, 0, 1]) / 2)
    np.testing.assert_allclose([x for _, x in columns], (corners[0, :-1, 0] + corners[0, 1:, 0]) / 2)


@pytest.mark.parametrize("n", [1, 2, 10, 26])
@pytest.mark.parametrize("long", [False, True])
def test_names_in_a_confusion_matrix_have_room(n: int, long: bool) -> None:
    title = "Validation after epoch 12 of 20"
    assert_no_text_is_clipped_or_overlaps(plots.confusion_matrix(confusion(n, 100), names_of(n, long), title))


def test_a_blank_is_a_name_as_well() -> None:
    assert_no_text_is_clipped_or_overlaps(plots.confusion_matrix(confusion(2, 100), ["A", " "]))


def corners_of_texts(figure: Figure, number: int) -> dict[tuple[int, int], NDArray[np.float64]]:
    (mesh,) = figure.findobj(QuadMesh)
    written = figure.findobj(PathCollection)[number]
    inches = [written.get_transform().transform(path.vertices) / figure.dpi for path in written.get_paths()]
    boxes = [
        (points.min(axis=0) + place, points.max(axis=0) + place)
        for points, place in zip(inches, written.get_offsets(), strict=True)
    ]
    return {cell_of(mesh, place): np.array(box) for place, box in zip(written.get_offsets(), boxes, strict=True)}


@pytest.mark.parametrize("n", [1, 2, 10, 12, 13, 26])
@pytest.mark.parametrize("images_of_a_class", [1, 5_000, 240_000])
def test_figures_in_cells_have_room(n: int, images_of_a_class: int) -> None:
    figure = plots.confusion_matrix(confusion(n, images_of_a_class), names_of(n, long=False))
    (mesh,) = figure.findobj(QuadMesh)
    corners = mesh.get_coordinates()
    for number in range(len(figure.findobj(PathCollection))):
        for (row, column), (low, high) in corners_of_texts(figure, number).items():
            (left, top), (right, bottom) = corners[row, column], corners[row + 1, column + 1]
            assert left < low[0] and high[0] < right
            assert bottom < low[1] and high[1] < top


def test_rates_stand_below_counts_where_there_is_room() -> None:
    figure = plots.confusion_matrix(confusion(12, 100), names_of(12, long=False))
    counts, rates = corners_of_texts(figure, 0), corners_of_texts(figure, 1)
    assert all(rates[cell][1][1] < counts[cell][0][1] for cell in rates)
    assert len(plots.confusion_matrix(confusion(13, 100), names_of(13, long=False)).findobj(PathCollection)) == 1


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([[1, 2, 3]], r"counts must have a row and a column for each of the 3 classes, got the shape \(1, 3\)"),
        (np.ones((2, 2)), r"for each of the 3 classes, got the shape \(2, 2\)"),
        (np.zeros((3, 3)), "counts must be 0 or more, and not all of them 0"),
        (np.eye(3) - 1, "counts must be 0 or more"),
    ],
)
def test_confusion_matrix_refuses_what_does_not_fit(counts: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plots.confusion_matrix(counts, CLASSES)
    with pytest.raises(ValueError, match="each of the 0 classes"):
        plots.confusion_matrix(np.empty((0, 0)), [])


def test_mistakes_are_shown_in_the_order_given() -> None:
    pixels = images(3)
    figure = plots.mistakes(pixels, [2, 0, 1], [0, 1, 2], [0.9994, 0.5, 1], CLASSES)
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
def test_titles_of_mistakes_have_room(n: int, names: tuple[str, ...]) -> None:
    labels = np.arange(n) % 3
    assert_no_text_is_clipped_or_overlaps(plots.mistakes(images(n), labels, 2 - labels, np.ones(n), names))


def test_mistakes_of_weights_that_have_diverged_have_no_confidence() -> None:
    figure = plots.mistakes(np.zeros((1, 4, 4)), [0], [1], [np.nan], ["a", "b"])

    assert "confidence: nan %" in figure.axes[0].get_title()


@pytest.mark.parametrize(
    ("n", "targets", "predicted", "confidence", "message"),
    [
        (0, [], [], [], "with at least one image"),
        (2, [0], [1, 1], [1, 1], "targets must have one entry for each of the 2 images"),
        (2, [0, 0], [1, 3], [1, 1], "predicted must be between 0 and 2"),
        (2, [0, 0], [1, 1], [1], r"confidence must be 0 to 1 for each of the 2 images, got \[1.0\]"),
        (2, [0, 0], [1, 1], [99, 1], r"confidence must be 0 to 1 for each of the 2 images, got \[99.0, 1.0\]"),
        (2, [0, 0], [1, 1], [-0.1, 1], "confidence must be 0 to 1"),
    ],
)
def test_mistakes_refuse_what_does_not_fit(
    n: int, targets: list[int], predicted: list[int], confidence: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        plots.mistakes(images(n), targets, predicted, confidence, CLASSES)


def photographs(n: int) -> list[NDArray[np.uint8]]:
    shapes = [(40, 200), (300, 20), (28, 28), (1, 1)]
    return [np.full((*shapes[i % 4], 3), 250 - i, dtype=np.uint8) for i in range(n)]


def test_seen_shows_each_original_in_its_proportions_left_of_what_the_network_saw() -> None:
    originals, pixels = photographs(4), images(4)
    figure = plots.seen(originals, pixels, ["a", "b", "c", "d"])
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
    figure = plots.seen(photographs(1), images(1), ["a very long name of a photograph of a boot.jpeg\nBag, $x$ 98.0 %"])
    name, class_name = figure.axes[0].get_title().splitlines()
    assert name.startswith("a very long") and name.endswith("boot.jpeg") and "…" in name
    assert class_name == "Bag, $x$ 98.0 %"


@pytest.mark.parametrize("n", [1, 2, 3, 16])
def test_captions_have_room(n: int) -> None:
    captions = [f"{'IMG_0123456789_' * 5}.JPG\n{LONG_CLASSES[i % 3]}, 99.9 %" for i in range(n)]
    assert_no_text_is_clipped_or_overlaps(plots.seen(photographs(n), images(n), captions))


def test_seen_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"seen must have the shape \(N, H, W\) with at least one image"):
        plots.seen([], images(0), [])
    with pytest.raises(ValueError, match="originals and captions must be as many as the 2 images seen, got 1 and 2"):
        plots.seen(photographs(1), images(2), ["a", "b"])
    with pytest.raises(ValueError, match="as many as the 2 images seen, got 2 and 1"):
        plots.seen(photographs(2), images(2), ["a"])
    with pytest.raises(ValueError, match=r"originals must have the shape \(h, w, 3\), got \(28, 28\)"):
        plots.seen([photographs(1)[0], images(1)[0]], images(2), ["a", "b"])


def test_calibration_draws_filled_bins_only() -> None:
    result = evaluation.calibration([1, 0, 1, 1], [0.3, 0.3, 0.9, 1.0], bins=5)
    figure = plots.calibration(result)
    upper, lower = figure.axes
    assert upper.get_title() == "Expected calibration error: 12.50 %"
    bars = [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in upper.patches]
    np.testing.assert_allclose(bars, [(0.2, 0.2, 0.5), (0.8, 0.2, 1.0)])
    assert [bar.get_height() for bar in lower.patches] == [2, 2]
    diagonal, points = upper.lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    np.testing.assert_allclose(points.get_xydata(), [(0.3, 0.5), (0.95, 1.0)])
    assert lower.get_yscale() == "log"
    assert lower.get_ylim()[0] < 1


@pytest.mark.parametrize("n", [1, 10_000])
def test_texts_of_a_calibration_have_room(n: int) -> None:
    confidence = np.random.default_rng(0).uniform(0.1, 1, n)
    figure = plots.calibration(evaluation.calibration(confidence > 0.4, confidence))
    assert_no_text_is_clipped_or_overlaps(figure)
    box = figure.legends[0].get_window_extent()
    assert not any(box.overlaps(axes.get_tightbbox()) for axes in figure.axes)


def test_calibration_refuses_no_images() -> None:
    nothing = np.full(2, np.nan)
    with pytest.raises(ValueError, match="at least one image"):
        plots.calibration(evaluation.Calibration(np.array([0, 0.5, 1]), np.zeros(2, int), nothing, nothing, 0.0))


@pytest.mark.parametrize(("n", "shape"), [(1, (3, 3)), (6, (3, 7)), (32, (5, 5)), (64, (3, 3)), (65, (3, 3))])
def test_filters_are_shown_on_one_scale_around_zero(n: int, shape: tuple[int, int]) -> None:
    weights = np.random.default_rng(0).normal(loc=1, size=(n, *shape))
    figure = plots.filters(weights, "Filters of a first layer whose name is long")
    axes, colorbar = figure.axes
    limit = np.abs(weights[:64]).max()
    assert [image.get_clim() for image in axes.images] == [(-limit, limit)] * min(n, 64)
    for image, values in zip(axes.images, weights, strict=False):
        np.testing.assert_array_equal(image.get_array(), values)
    assert colorbar.get_ylabel() == "weight"
    assert ("the first 64 of 65" in axes.get_title().replace("\n", " ")) == (n == 65)
    assert_no_text_is_clipped_or_overlaps(figure)


def test_filters_of_zeros_have_a_scale() -> None:
    assert plots.filters(np.zeros((1, 3, 3)), "Filters").axes[0].images[0].get_clim() == (-1, 1)


@pytest.mark.parametrize("shape", [(0, 3, 3), (3, 3), (2, 1, 3, 3)])
def test_filters_refuse_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"weights must have the shape \(K, h, w\) with at least one filter"):
        plots.filters(np.zeros(shape), "Filters")


def test_feature_maps_are_a_row_for_each_layer_on_its_own_scale() -> None:
    rng = np.random.default_rng(0)
    image, many, few = images(1)[0], rng.normal(size=(20, 14, 14)), 100 * rng.normal(size=(3, 7, 5))
    first, upper, lower = plots.feature_maps(image, {"conv1": many, "conv2": few}).axes
    np.testing.assert_array_equal(first.images[0].get_array(), image)
    assert upper.get_title(loc="left") == "conv1: 16 of 20 maps, 14 × 14"
    assert lower.get_title(loc="left") == "conv2: 3 of 3 maps, 7 × 5"
    assert [i.get_clim() for i in upper.images] == [(many[:16].min(), many[:16].max())] * 16
    assert [i.get_clim() for i in lower.images] == [(few.min(), few.max())] * 3
    np.testing.assert_array_equal(upper.images[15].get_array(), many[15])
    assert upper.get_xlim() == lower.get_xlim()
    assert len({i.get_extent()[3] for i in upper.images}) == 1


@pytest.mark.parametrize(("layers", "maps"), [(1, 1), (2, 16), (8, 7)])
def test_names_of_layers_have_room(layers: int, maps: int) -> None:
    rows = {f"{i} {LONG_CLASSES[i % 3]}": np.ones((maps, 28, 28)) for i in range(layers)}
    assert_no_text_is_clipped_or_overlaps(plots.feature_maps(images(1)[0], rows))


def test_feature_maps_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"image must have the shape \(H, W\), got \(1, 28, 28\)"):
        plots.feature_maps(images(1), {"conv": images(1)})
    with pytest.raises(ValueError, match="layers must have at least one layer"):
        plots.feature_maps(images(1)[0], {})
    with pytest.raises(
        ValueError, match=r"layer 'fc' must have the shape \(K, h, w\) with at least one map, got \(50,\)"
    ):
        plots.feature_maps(images(1)[0], {"fc": np.zeros(50)})
