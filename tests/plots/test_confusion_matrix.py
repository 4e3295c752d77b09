import numpy as np
import pytest
from drawing import CLASSES, LONG_CLASSES, assert_no_text_is_clipped_or_overlaps
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

from lightning_cnn.plots import figures


def confusion(n: int, images_of_a_class: int) -> NDArray[np.int64]:
    mistakes = np.random.default_rng(0).integers(0, 4, (n, n))
    return mistakes + images_of_a_class * np.eye(n, dtype=np.int64)


def names_of(n: int, long: bool) -> list[str]:
    return [f"{i} {LONG_CLASSES[i % 3]} {i}" if long else chr(ord("A") + i) for i in range(n)]


def parts(figure: Figure) -> tuple[Axes, list[PathCollection]]:
    """Return the axes, and the texts in the cells."""
    (axes,) = figure.axes
    return axes, axes.findobj(PathCollection)


def outline(path: Path) -> NDArray[np.float64]:
    points = np.asarray(path.vertices)
    return points - points[0]


def boxes(axes: Axes, written: PathCollection) -> dict[tuple[int, int], NDArray[np.float64]]:
    """Lower left and upper right corner of each text, in cells from the middle of its cell; upwards is negative."""
    found = {}
    for path, place in zip(written.get_paths(), written.get_offsets(), strict=True):
        pixels = written.get_transform().transform(path.vertices) + axes.transData.transform(place)
        corners = axes.transData.inverted().transform([pixels.min(axis=0), pixels.max(axis=0)])
        column, row = (round(x) for x in place)
        found[row, column] = corners - (column, row)
    return found


def assert_written(axes: Axes, written: PathCollection, expected: dict[tuple[int, int], str]) -> None:
    assert list(boxes(axes, written)) == list(expected)
    for path, text in zip(written.get_paths(), expected.values(), strict=True):
        np.testing.assert_allclose(outline(path), outline(TextPath((0, 0), text, size=1)), atol=1e-6)


def test_confusion_matrix_shows_counts_and_rates_of_rows() -> None:
    figure = figures.confusion_matrix([[900, 60, 40], [0, 0, 0], [1, 0, 1999]], CLASSES, "After epoch 3")
    axes, (counts, rates) = parts(figure)
    (mesh,) = axes.findobj(QuadMesh)
    np.testing.assert_array_equal(mesh.get_array(), [[0.9, 0.06, 0.04], [0, 0, 0], [0.0005, 0, 0.9995]])
    assert mesh.get_clim() == (0, 1)
    numbers = ["900", "60", "40", "0", "0", "0", "1", "0", "1,999"]
    assert_written(axes, counts, dict(zip(np.ndindex(3, 3), numbers, strict=True)))
    percents = {(0, 0): "90.0 %", (0, 1): "6.0 %", (0, 2): "4.0 %", (2, 0): "0.1 %", (2, 2): "100.0 %"}
    assert_written(axes, rates, percents)
    assert figure.get_suptitle() == "After epoch 3\n96.63 % of 3,000 correct"


@pytest.mark.parametrize("n", [1, 2, 10, 26])
@pytest.mark.parametrize("long", [False, True])
def test_names_in_a_confusion_matrix_do_not_overlap(n: int, long: bool) -> None:
    names = names_of(n, long)
    figure = figures.confusion_matrix(confusion(n, 100), names, "Validation after epoch 12 of 20")
    assert_no_text_is_clipped_or_overlaps(figure)
    (axes,) = figure.axes
    assert axes.get_xlim() == (-0.5, n - 0.5) and axes.get_ylim() == (n - 0.5, -0.5)  # rows downwards
    of_rows = {text.get_position()[1]: text.get_text() for text in axes.texts if text.get_position()[0] < -0.5}
    of_columns = {text.get_position()[0]: text.get_text() for text in axes.texts if text.get_position()[1] > n - 0.5}
    for shown in (of_rows, of_columns):
        assert list(shown) == list(range(n))
        assert all(
            text[:3] == name[:3] and text[-3:] == name[-3:] for text, name in zip(shown.values(), names, strict=True)
        )


def test_a_class_name_can_be_blank() -> None:
    assert_no_text_is_clipped_or_overlaps(figures.confusion_matrix(confusion(2, 100), ["A", " "]))


@pytest.mark.parametrize("n", [1, 3, 4, 12, 13])  # the fewest and the most classes with cells of each size
@pytest.mark.parametrize("images_of_a_class", [1, 240_000])
def test_numbers_stay_inside_their_cells(n: int, images_of_a_class: int) -> None:
    axes, collections = parts(figures.confusion_matrix(confusion(n, images_of_a_class), names_of(n, long=False)))
    for written in collections:
        assert all((abs(box) < 0.5).all() for box in boxes(axes, written).values())


def test_rates_are_below_the_counts_of_up_to_12_classes() -> None:
    axes, (counts, rates) = parts(figures.confusion_matrix(confusion(12, 100), names_of(12, long=False)))
    above, below = boxes(axes, counts), boxes(axes, rates)
    assert all(below[cell][1, 1] > above[cell][0, 1] for cell in below)
    assert len(parts(figures.confusion_matrix(confusion(13, 100), names_of(13, long=False)))[1]) == 1


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([[1, 2, 3]], r"counts must have a row and a column for each of the 3 classes, got the shape \(1, 3\)"),
        (np.ones((2, 2)), r"for each of the 3 classes, got the shape \(2, 2\)"),
        (np.zeros((3, 3)), "counts must be 0 or more, and not all of them 0"),
        (np.eye(3) - 1, "counts must be 0 or more"),
    ],
)
def test_confusion_matrix_refuses_invalid_counts(counts: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        figures.confusion_matrix(counts, CLASSES)
    with pytest.raises(ValueError, match="each of the 0 classes"):
        figures.confusion_matrix(np.empty((0, 0)), [])
