import warnings

import optuna
import pytest
from matplotlib import pyplot as plt
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from lightning_cnn.sweep import figures

DISTRIBUTIONS = {
    "model.optimizer": CategoricalDistribution(["torch.optim.Adam", "torch.optim.SGD"]),
    "model.optimizer.lr": FloatDistribution(1e-4, 1.0, log=True),
    "model.optimizer.momentum": FloatDistribution(0.0, 0.99),
}
ADAM = {"model.optimizer": "torch.optim.Adam", "model.optimizer.lr": 0.01}
SGD = {"model.optimizer": "torch.optim.SGD", "model.optimizer.lr": 0.1, "model.optimizer.momentum": 0.9}


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draw the figures of trials, and return the axes of each by its file name."""
    drawn = {}
    save = plt.savefig

    def keep(path, **options):
        save(path, **options)
        drawn[path.name[1:].partition(".")[0]] = plt.gcf().axes

    def run(*trials, monitor="val/acc"):
        study = optuna.create_study(direction="maximize")
        for state, value, params in trials:
            distributions = {name: DISTRIBUTIONS[name] for name in params}
            diverged = {"constraints:diverged": 1.0} if state == "DIVERGED" else {}
            state = TrialState.PRUNED if diverged else state
            trial = {"state": state, "value": value, "params": params, "system_attrs": diverged}
            study.add_trial(create_trial(**trial, distributions=distributions))
        monkeypatch.setattr(plt, "savefig", keep)
        before = plt.rcParams["axes.facecolor"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            figures.write_figures(study, tmp_path, monitor, monitor == "val/acc")
        assert not plt.get_fignums() and plt.rcParams["axes.facecolor"] == before
        return drawn

    return run


def complete(value, params=ADAM):
    return TrialState.COMPLETE, value, params


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_history_has_all_trials_and_each_setting_those_that_have_it(draw):
    drawn = draw(
        complete(0.90), complete(0.95, SGD), (TrialState.PRUNED, 0.8, SGD), complete(0.93, SGD), ("DIVERGED", 0.7, SGD)
    )

    (axes,) = drawn["history"]
    complete_trials, _, pruned = axes.collections
    assert complete_trials.get_offsets().tolist() == [[0, 0.9], [1, 0.95], [3, 0.93]]
    assert pruned.get_offsets().tolist() == [[2, 0.8]]
    assert axes.lines[0].get_ydata().tolist() == [0.9, 0.95, 0.95, 0.95, 0.95]
    assert axes.get_ylabel() == "val/acc" and all("%" in label for label in labels(axes.yaxis))
    optimizer, lr, momentum, _ = drawn["settings"]
    assert [axes.get_xlabel() for axes in (optimizer, lr, momentum)] == [*DISTRIBUTIONS]
    assert labels(optimizer.xaxis) == ["Adam", "SGD"]
    assert lr.get_xscale() == "log"
    assert len(lr.collections[0].get_offsets()) == 3 and len(momentum.collections[0].get_offsets()) == 2


def test_a_trial_that_learned_nothing_does_not_flatten_the_others(draw):
    (axes,) = draw(complete(0.1), complete(0.99), complete(0.98), complete(1.0))["history"]
    heights = axes.transAxes.inverted().transform(axes.transData.transform([(0, 0.1), (0, 0.98), (0, 0.99)]))[:, 1]

    assert heights[2] - heights[1] > 0.05
    assert {"50%", "90%", "98%", "99%"} <= {label.partition(".")[0].rstrip("%") + "%" for label in labels(axes.yaxis)}


def test_a_single_trial_and_a_loss_are_drawn(draw):
    drawn = draw(complete(123.0, SGD), monitor="val/loss")

    assert {*drawn} == {"history", "settings"}
    assert not any("%" in label for label in labels(drawn["history"][0].yaxis))


def test_importance_has_the_most_important_setting_on_top(draw):
    trials = [complete(0.9 + n / 1000, {**SGD, "model.optimizer.lr": 10 ** (-n / 5)}) for n in range(12)]
    (axes,) = draw(*trials)["importance"]

    assert axes.get_title(loc="left") == "What distinguishes the best quarter of 12 trials"
    assert labels(axes.yaxis)[-1] == "model.optimizer.lr"
