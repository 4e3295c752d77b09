import json

import optuna
import pytest

from lightning_cnn.config import yaml as configs
from lightning_cnn.errors import UserError
from lightning_cnn.sweep.space import build_space
from lightning_cnn.sweep.tasks import repetitions
from lightning_cnn.sweep.trial_process import flag

SPACE = """
model.optimizer: [Adam, SGD, RMSprop]
model.optimizer.lr: {from: 1e-4, to: 0.1, log: true}
model.optimizer.momentum: {from: 0, to: 0.99, if: {model.optimizer: [SGD, RMSprop]}}
model.optimizer.nesterov: {choices: [true, false], if: {model.optimizer: SGD}}
model.hidden: {from: 16, to: 64, step: 16}
data.batch_size: {from: 8, to: 512, log: true}
"""


def space(text: str):
    return build_space(configs.parse_config(text, "space.yaml"), "space.yaml")


@pytest.fixture
def suggested():
    """What 60 trials choose from `SPACE`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space(SPACE).suggest(study.ask()) for _ in range(60)]


def test_values_are_in_their_ranges_and_all_of_them_occur(suggested):
    assert {trial["model.optimizer"] for trial in suggested} == {"Adam", "SGD", "RMSprop"}
    assert {trial["model.hidden"] for trial in suggested} == {16, 32, 48, 64}
    assert all(1e-4 <= trial["model.optimizer.lr"] <= 0.1 for trial in suggested)
    assert all(isinstance(n := trial["data.batch_size"], int) and 8 <= n <= 512 for trial in suggested)


def test_with_log_each_order_of_magnitude_is_equally_likely(suggested):
    small = sum(trial["model.optimizer.lr"] < 1e-2 for trial in suggested)

    assert 30 < small < 50  # of 60; without log, 6


def test_conditional_settings_are_suggested_only_if_their_conditions_hold(suggested):
    for trial in suggested:
        assert ("model.optimizer.momentum" in trial) == (trial["model.optimizer"] != "Adam")
        assert ("model.optimizer.nesterov" in trial) == (trial["model.optimizer"] == "SGD")


def test_settings_keep_their_order(suggested):
    order = [*configs.parse_config(SPACE, "space.yaml")]

    assert all([*trial] == [name for name in order if name in trial] for trial in suggested)


def test_a_condition_on_an_absent_setting_does_not_hold():
    examples = space("a: [1, 2]\nb: {choices: [3, 4], if: {a: 2}}\nc: {choices: [5, 6], if: {b: 4}}").examples()

    assert {"a": 1} in examples and {"a": 2, "b": 3} in examples
    assert all("b" in example for example in examples if "c" in example)


def test_every_value_has_an_example_in_which_its_conditions_hold():
    examples = space(SPACE).examples()

    for name, setting in space(SPACE).settings.items():
        assert {example[name] for example in examples if name in example} == set(setting.examples)
    assert len({json.dumps(example) for example in examples}) == len(examples)
    momentum = [example["model.optimizer"] for example in examples if "model.optimizer.momentum" in example]
    assert set(momentum) == {"SGD", "RMSprop"}


def test_examples_are_possible_trials(suggested):
    shapes = {tuple(trial) for trial in suggested}

    assert {tuple(example) for example in space(SPACE).examples()} <= shapes


@pytest.mark.parametrize(("low", "high"), [(-1, 2), (0, 2), (1, 3)])
def test_a_small_integer_range_has_all_its_values(low, high):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = space(f"n: {{from: {low}, to: {high}}}")

    assert {found.suggest(study.ask())["n"] for _ in range(60)} == {*range(low, high + 1)}


def test_a_setting_given_twice_is_refused():
    with pytest.raises(UserError, match=r"space.yaml is not a valid config: 'lr' is given twice \(line 2\); keep one"):
        space("lr: [1, 2]\nlr: [3, 4]")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "space.yaml has no settings to search"),
        ("lr: 0.1", "space.yaml: lr: must be choices, as in [32, 64], or a range"),
        ("--lr: [1, 2]", "space.yaml: --lr: settings have no dashes here; write lr"),
        ("1: [1, 2]", "space.yaml: 1: not the name of a setting"),
        ("a b: [1, 2]", "space.yaml: a b: not the name of a setting"),
        ("ckpt_path: [a, b]", "space.yaml: ckpt_path: cannot be searched"),
        ("test: [true, false]", "space.yaml: test: cannot be searched"),
        (
            "model.optimizer.lr: [1, 2]\nmodel.init_args.optimizer.lr: [3, 4]",
            "space.yaml: model.init_args.optimizer.lr: is the same setting as model.optimizer.lr; keep one",
        ),
        (
            "lr: {from: 1, too: 3}",
            "space.yaml: lr: unknown key 'too' (choose from choices, from, to, log, step, if); did you mean 'to'?",
        ),
        ("lr: {from: 1.0}", "space.yaml: lr: a range needs 'to'"),
        ("lr: {to: 1.0}", "space.yaml: lr: a range needs 'from'"),
        ("lr: {from: 0.5, to: 0.5}", "from must be less than to, got from 0.5 to 0.5"),
        ("lr: {from: 2, to: 1}", "from must be less than to, got from 2 to 1"),
        ("lr: {from: a, to: 1}", "from must be a number, got 'a'"),
        ("lr: {from: [1], to: 1}", "from must be a number, got [1]"),
        ("lr: {from: false, to: true}", "from must be a number, got False"),
        ("lr: {from: 0.0, to: 1.0, log: true}", "with log, from must be more than 0, got 0.0"),
        ("lr: {from: -1, to: 10, log: true}", "with log, from must be more than 0, got -1"),
        ("lr: {from: 1.0, to: 2.0, log: 1}", "log must be true or false, got 1"),
        ("lr: {from: 0, to: 1}", "write 0.0 and 1.0 for a range of floats, or [0, 1] for these two"),
        ("n: {from: 1, to: 2}", "there is no integer between 1 and 2"),
        ("lr: {from: 0.0, to: 1.0, step: 1}", "step is for integers without log"),
        ("lr: {from: 1, to: 8, step: 2, log: true}", "step is for integers without log"),
        ("lr: {from: 1, to: 8, step: 0}", "step must be an integer of at least 1, got 0"),
        ("lr: {from: 1, to: 8, step: 1.5}", "step must be an integer of at least 1, got 1.5"),
        ("lr: {from: 1, to: 8, step: true}", "step must be an integer of at least 1, got True"),
        ("lr: {from: 1, to: 8, step: 2}", "steps of 2 from 1 do not reach 8; end at 7"),
        ("lr: []", "must have at least two choices, got 0"),
        ("lr: [0.5]", "must have at least two choices, got 1; for a single value, give the sweep --…=0.5"),
        ("lr: [1, 2, 1]", "the choice 1 is given twice"),
        ("lr: [1, true]", "the choice True is given twice"),
        ("lr: [1, [2]]", "a choice must be a number, a string, true, false or null, got [2]"),
        ("lr: {choices: 3}", "choices must be a list, such as [32, 64], got 3"),
        ("lr: {choices: [1, 2], from: 1}", "'from' cannot be combined with choices"),
        ("b: {from: 0.0, to: 1.0, if: {a: 1}}\na: [1, 2]", "if names a, which is not among the settings before it"),
        ("opt: [1, 2]\nb: {choices: [3, 4], if: {optt: 1}}", "did you mean 'opt'?"),
        ("a: [1, 2]\nb: {choices: [3, 4], if: {a: 3}}", "if names 3 for a, but its choices are 1, 2"),
        ("a: [1, 2]\nb: {choices: [3, 4], if: {a: []}}", "if names no value of a; its choices are 1, 2"),
        ("a: {from: 0.0, to: 1.0}\nb: {choices: [3, 4], if: {a: 1.0}}", "if names a, which is a range"),
        ("a: [1, 2]\nb: {choices: [3, 4], if: a}", "if must have settings and their choices"),
    ],
)
def test_errors_are_one_line(text, reason):
    with pytest.raises(UserError) as refused:
        space(text)

    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (None, "null"), (-0.5, "-0.5"), (32, "32"), ("torch.optim.SGD", "torch.optim.SGD")],
)
def test_values_are_written_as_fit_reads_them(value, text):
    assert flag("a.b", value) == f"--a.b={text}"


def test_repetitions_are_over_seeds_folds_or_both():
    assert repetitions(2, None) == [{"seed_everything": 0}, {"seed_everything": 1}]
    assert repetitions(None, 2) == [{"data.folds": 2, "data.fold": 0}, {"data.folds": 2, "data.fold": 1}]
    assert len(repetitions(2, 3)) == 6
    assert {"seed_everything": 1, "data.folds": 3, "data.fold": 2} in repetitions(2, 3)
