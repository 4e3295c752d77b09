import numpy as np
import pytest
from drawing import LONG_CLASSES, assert_no_text_is_clipped_or_overlaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightning_cnn.plots import evaluation, figures


def test_history_plots_the_given_numbers_over_epochs_from_one() -> None:
    figure = figures.history([2.0, 1.0], [0.25, 0.5], [1.5, 1.25], [0.375, 0.75])
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


def test_history_in_one_column_has_the_panels_of_two_below_each_other() -> None:
    run = {"train_loss": [2.0, 1.0], "train_acc": [0.25, 0.5], "val_loss": [1.5, 1.25], "val_acc": [0.375, 0.75]}
    wide, narrow = figures.history(**run), figures.stacked_history(run)
    titles = [[axes.get_title(loc="left") for axes in figure.axes] for figure in (wide, narrow)]
    assert titles[0] == titles[1]
    assert len({axes.get_position().x0 for axes in narrow.axes}) == 1
    assert narrow.axes[0].get_ylim() == narrow.axes[1].get_ylim() == wide.axes[0].get_ylim()
    assert_no_text_is_clipped_or_overlaps(narrow)


def test_history_leaves_out_values_that_were_not_logged() -> None:
    nan = np.nan
    figure = figures.history([1, 2, 3], [0, 0.5, 1], [nan, nan, nan], [nan, 0.5, nan])
    drawn = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert drawn["Validation loss"].get_title(loc="right") == "not logged"
    assert drawn["Validation accuracy"].lines[0].get_xydata().tolist() == [[2, 50.0]]


@pytest.mark.parametrize("n", [1, 2, 20])
def test_epochs_are_whole_and_every_point_is_visible(n: int) -> None:
    values = np.linspace(0.1, 0.9, n)
    figure = figures.history(values, values, values, values)
    assert_no_text_is_clipped_or_overlaps(figure)
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert low < 1
        assert high > n
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks
        assert all(tick == round(tick) for tick in ticks)
        assert axes.lines[0].get_marker() == "o"


@pytest.mark.parametrize("curves", [([1], [1], [1], [1, 2]), ([], [], [], []), ([[1]], [[1]], [[1]], [[1]])])
def test_history_refuses_empty_curves_and_different_lengths(curves: tuple[list[float], ...]) -> None:
    with pytest.raises(ValueError, match=r"the four curves must have one shape \(E,\) with at least one epoch"):
        figures.history(*curves)


def curves(*val_acc: float) -> dict[str, NDArray[np.float64]]:
    values = np.array(val_acc)
    return {"train_loss": 1 - values, "train_acc": values, "val_loss": 1 - values, "val_acc": values}


def legend_texts(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_comparison_draws_each_run_over_its_own_epochs_under_its_own_style() -> None:
    nan = np.nan
    figure = figures.comparison({"short": curves(0.25, 0.5), "long": curves(0.5, nan, 0.75, 1.0)})
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


def test_legend_of_a_comparison_is_sorted_by_the_last_logged_accuracy() -> None:
    nan = np.nan
    runs = {
        "none": curves(nan),
        "middle": curves(0.875, nan),
        "worst": curves(0.99, 0.5),
        "best": curves(0.1, 0.9),
    }
    labels = ["90.00 %  best", "87.50 %  middle", "50.00 %  worst", "not logged  none"]
    assert legend_texts(figures.comparison(runs)) == labels


@pytest.mark.parametrize("n", [1, 2, 8, 20])
def test_runs_differ_in_more_than_colour_and_the_legend_covers_no_curve(n: int) -> None:
    figure = figures.comparison({f"{i} {LONG_CLASSES[i % 3]}/version_{i}": curves(0.5 + i / 100) for i in range(n)})
    assert_no_text_is_clipped_or_overlaps(figure)
    box = figure.legends[0].get_window_extent()
    assert not any(box.overlaps(axes.get_tightbbox()) for axes in figure.axes)
    assert figure.axes[0].get_window_extent().height > 2 * figure.dpi  # nor makes the panels small
    assert [text.rpartition("_")[2] for text in legend_texts(figure)] == [str(i) for i in reversed(range(n))]
    styles = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in figure.axes[0].lines]
    assert len(set(styles)) == n
    assert len({color for color, _, _ in styles}) == min(n, 8)
    assert len({(marker, line) for _, marker, line in styles}) == n


def test_curves_are_drawn_over_the_numbers_of_their_epochs() -> None:
    figure = figures.history(**curves(0.5, 0.75), epochs=[3, 999_999])
    assert figure.axes[0].lines[0].get_xdata().tolist() == [3, 999_999]


def test_values_that_overflow_are_left_out() -> None:
    values = [0.5, 1e308, -np.inf, 0.25]
    figure = figures.history(values, values, values, values)
    figure.draw_without_rendering()
    assert figure.axes[0].lines[0].get_xdata().tolist() == [1, 4]


def test_history_looks_like_a_comparison_of_one_run() -> None:
    run = curves(0.5, 0.75)
    alone, compared = figures.history(**run), figures.comparison({"run": run})
    for axes, other in zip(alone.axes, compared.axes, strict=True):
        assert axes.lines[0].get_xydata().tolist() == other.lines[0].get_xydata().tolist()
        assert axes.lines[0].get_color() == other.lines[0].get_color()


def test_comparison_refuses_missing_runs_and_curves() -> None:
    with pytest.raises(ValueError, match="runs must have at least one run"):
        figures.comparison({})
    with pytest.raises(ValueError, match="of run 'b', the curves train_acc, val_loss are missing"):
        figures.comparison({"a": curves(1), "b": {"train_loss": [1], "val_acc": [1]}})
    with pytest.raises(ValueError, match=r"of run 'b', the four curves must have one shape \(E,\)"):
        figures.comparison({"a": curves(1), "b": {**curves(1), "val_acc": [1, 2]}})


def test_calibration_draws_filled_bins_only() -> None:
    result = evaluation.calibration([1, 0, 1, 1], [0.3, 0.3, 0.9, 1.0], bins=5)
    figure = figures.calibration(result)
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
def test_texts_of_a_calibration_do_not_overlap(n: int) -> None:
    confidence = np.random.default_rng(0).uniform(0.1, 1, n)
    figure = figures.calibration(evaluation.calibration(confidence > 0.4, confidence))
    assert_no_text_is_clipped_or_overlaps(figure)
    box = figure.legends[0].get_window_extent()
    assert not any(box.overlaps(axes.get_tightbbox()) for axes in figure.axes)


def test_calibration_without_images_is_refused() -> None:
    nothing = np.full(2, np.nan)
    with pytest.raises(ValueError, match="at least one image"):
        figures.calibration(evaluation.Calibration(np.array([0, 0.5, 1]), np.zeros(2, int), nothing, nothing, 0.0))
