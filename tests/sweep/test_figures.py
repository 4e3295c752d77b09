import math

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lightning_cnn.sweep import figures
from lightning_cnn.sweep.figures import Setting

NAN = math.nan


def drawn(figure: Figure) -> dict[str, tuple[list[float], list[float]]]:
    """What lines of the first axes show, by their labels, without what is not there."""
    lines = {}
    for line in figure.axes[0].lines:
        x, y = np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)
        seen = ~(np.isnan(x) | np.isnan(y))
        lines[line.get_label()] = (x[seen].tolist(), pytest.approx(y[seen].tolist()))
    return lines


def test_history_shows_errors_of_complete_and_pruned_trials_and_the_best_complete_one_until_then():
    figure = figures.history([0, 1, 2, 3, 5], [0.9, 0.95, 0.8, NAN, 0.96], [False, False, False, True, True])

    assert drawn(figure) == {
        "complete": ([0, 1, 2], [10, 5, 20]),
        "pruned: best until it was stopped": ([5], [4]),
        "best until then": ([0, 1, 2, 3, 5], [10, 5, 5, 5, 5]),
    }


def test_history_starts_its_best_with_the_first_complete_trial():
    figure = figures.history([0, 1], [0.95, 0.9], [True, False])

    assert drawn(figure)["best until then"] == ([1], [10])


def test_the_scale_tells_accuracy_and_better_is_above():
    figure = figures.history([0, 1, 2], [0.1, 0.9, 0.99], [False] * 3)
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes

    assert axes.get_yscale() == "log"
    assert axes.yaxis_inverted()
    assert {"50", "90", "95", "99"} <= {label.get_text() for label in axes.get_yticklabels()}
    heights = axes.transData.transform([(0, 90), (0, 10), (0, 1)])[:, 1]
    assert heights[0] < heights[1] < heights[2]


def test_no_error_at_all_can_be_drawn():
    figure = figures.history([0, 1], [1.0, 1.0], [False, False])
    FigureCanvasAgg(figure).draw()

    assert drawn(figure)["complete"] == ([0, 1], [0.01, 0.01])


def test_without_pruned_trials_the_legend_has_none():
    (legend,) = figures.history([0], [0.9], [False]).legends

    assert [text.get_text() for text in legend.get_texts()] == ["complete", "best until then"]


def test_each_setting_has_a_panel_with_the_trials_that_had_it():
    values = {
        "model.optimizer": Setting(["SGD", "Adam", "SGD"]),
        "model.optimizer.momentum": Setting([0.5, None, 0.9]),
        "model.optimizer.lr": Setting([0.1, 0.01, 0.001], is_log=True),
        "data.batch_size": Setting([32, 64, 128]),
    }
    figure = figures.settings(values, [0.9, 0.8, 0.95], [False, False, True])
    FigureCanvasAgg(figure).draw()
    optimizer, momentum, lr, batch_size = figure.axes

    assert [axes.get_xlabel() for axes in figure.axes] == list(values)
    assert [label.get_text() for label in optimizer.get_xticklabels()] == ["Adam", "SGD"]
    assert optimizer.lines[0].get_xdata().tolist() == [1, 0]
    np.testing.assert_array_equal(momentum.lines[0].get_xdata(), [0.5, NAN])
    assert momentum.lines[1].get_xdata().tolist() == [0.9]
    assert [axes.get_xscale() for axes in figure.axes] == ["linear", "linear", "log", "linear"]
    assert lr.get_ylim() == batch_size.get_ylim() == optimizer.get_ylim()


def test_many_words_of_a_choice_do_not_overlap():
    words = [f"torch.optim.lr_scheduler.Scheduler{n}" for n in range(4)]
    figure = figures.settings({"model.scheduler": Setting(words)}, [0.9] * 4, [False] * 4)
    (axes,) = figure.axes

    assert {label.get_rotation() for label in axes.get_xticklabels()} == {20}


def test_importance_has_the_most_important_setting_on_top():
    figure = figures.importance({"lr": 0.7, "batch_size": 0.1, "momentum": 0.2}, trials=12)
    (axes,) = figure.axes

    assert axes.get_title(loc="left") == "What sets the best quarter of 12 trials apart"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["batch_size", "momentum", "lr"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([10, 20, 70])
    assert [text.get_text() for text in axes.texts] == ["10 %", "20 %", "70 %"]
