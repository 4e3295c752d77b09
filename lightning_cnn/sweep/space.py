"""The search space of a sweep: settings of `fit`, each with its choices or its range.

In YAML, a list is a choice and a mapping is a range, both ends included:

    model.optimizer: [Adam, SGD]
    model.optimizer.lr: {from: 1e-4, to: 0.1, log: true}
    model.optimizer.momentum: {from: 0.0, to: 0.99, if: {model.optimizer: SGD}}
    data.batch_size: {choices: [32, 64, 128]}
    model.hidden: {from: 16, to: 128, step: 16}
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from optuna import Trial
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from lightning_cnn.config.yaml import describe
from lightning_cnn.errors import UserError, did_you_mean
from lightning_cnn.sweep.trial_process import RESERVED, Value, flag, short_name

Distribution: TypeAlias = CategoricalDistribution | FloatDistribution | IntDistribution

_KEYS = ("choices", "from", "to", "log", "step", "if")
_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


@dataclass(frozen=True)
class Setting:
    """A setting that is searched.

    Args:
        distribution: Its values; with `log`, every order of magnitude is equally likely.
        conditions: The values of other settings with which it is present; all conditions must hold.
    """

    distribution: Distribution
    conditions: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    @property
    def examples(self) -> tuple[Value, ...]:
        """All choices, or both ends of the range."""
        if isinstance(self.distribution, CategoricalDistribution):
            return tuple(self.distribution.choices)
        return self.distribution.low, self.distribution.high

    def is_present(self, chosen: Mapping[str, Value]) -> bool:
        """Whether the conditions hold for the values of the settings before it."""
        return all(name in chosen and chosen[name] in values for name, values in self.conditions.items())

    def suggest(self, trial: Trial, name: str) -> Value:
        """Suggest a value for a trial."""
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                return trial.suggest_categorical(name, choices)
            case IntDistribution(low=low, high=high, step=step, log=log):
                return trial.suggest_int(name, low, high, step=step, log=log)
            case FloatDistribution(low=low, high=high, log=log):
                return trial.suggest_float(name, low, high, log=log)


@dataclass(frozen=True)
class Space:
    """All settings of a search, in the order in which they are suggested and given to `fit`.

    Args:
        settings: Each setting, by its flag without dashes.
    """

    settings: Mapping[str, Setting]

    def suggest(self, trial: Trial) -> dict[str, Value]:
        """Suggest the settings of a trial, except those whose conditions do not hold."""
        chosen: dict[str, Value] = {}
        for name, setting in self.settings.items():
            if setting.is_present(chosen):
                chosen[name] = setting.suggest(trial, name)
        return chosen

    def examples(self) -> list[dict[str, Value]]:
        """Return settings of trials with every choice, and both ends of every range, at least once."""
        found = [self._example({name: value}) for name, one in self.settings.items() for value in one.examples]
        return [example for n, example in enumerate(found) if example not in found[:n]]

    def _example(self, wanted: dict[str, Value]) -> dict[str, Value]:
        """Return the trial with these values, the values that their conditions require, and the first of all others."""
        for name, setting in reversed([*self.settings.items()]):
            if name in wanted:
                wanted = {**{other: values[0] for other, values in setting.conditions.items()}, **wanted}
        chosen: dict[str, Value] = {}
        for name, setting in self.settings.items():
            if setting.is_present(chosen):
                chosen[name] = wanted.get(name, setting.examples[0])
        return chosen


def build_space(content: Mapping[str, Any], source: str) -> Space:
    """Return the space that a mapping describes.

    Args:
        content: The content of the YAML file.
        source: The name of the file, for messages.

    Raises:
        UserError: If it does not describe a space.
    """
    if not content:
        raise UserError(f"{source} has no settings to search; give at least one, such as model.optimizer.lr")
    settings: dict[str, Setting] = {}
    for name, spec in content.items():
        try:
            settings[str(name)] = _setting(str(name), spec, settings)
        except ValueError as error:
            raise UserError(f"{source}: {name}: {error}") from error
    return Space(settings)


def _setting(name: str, spec: object, earlier: Mapping[str, Setting]) -> Setting:
    if name.startswith("-"):
        raise ValueError(f"settings have no dashes here; write {name.lstrip('-')}")
    if not _NAME.fullmatch(name):
        raise ValueError("not the name of a setting; write a flag of `fit` without dashes, such as model.optimizer.lr")
    if short_name(name) in RESERVED:
        raise ValueError("cannot be searched, because the sweep sets it for each trial")
    if same := [other for other in earlier if short_name(other) == short_name(name)]:
        raise ValueError(f"is the same setting as {same[0]}; keep one")
    spec = {"choices": spec} if isinstance(spec, list) else spec
    if not isinstance(spec, dict):
        raise ValueError(f"must be choices, as in [32, 64], or a range, as in {{from: 0.0, to: 0.5}}, got {spec!r}")
    for key in spec:
        if key not in _KEYS:
            raise ValueError(
                f"unknown key {describe(key)} (choose from {', '.join(_KEYS)}){did_you_mean(str(key), _KEYS)}"
            )
    conditions = _conditions(spec["if"], earlier) if "if" in spec else {}
    if "choices" not in spec:
        return Setting(_range(spec), conditions)
    if surplus := spec.keys() - {"choices", "if"}:
        raise ValueError(f"{min(surplus)!r} cannot be combined with choices; give choices, or a range from … to")
    return Setting(_choices(spec["choices"]), conditions)


def _choices(values: object) -> CategoricalDistribution:
    if not isinstance(values, list):
        raise ValueError(f"choices must be a list, such as [32, 64], got {values!r}")
    for n, value in enumerate(values):
        if not isinstance(value, bool | int | float | str | None):
            raise ValueError(f"a choice must be a number, a string, true, false or null, got {value!r}")
        if value in values[:n]:
            raise ValueError(f"the choice {value!r} is given twice; keep one")
    if len(values) < 2:
        advice = f"; for a single value, give the sweep {flag('…', values[0])}" if values else ""
        raise ValueError(f"must have at least two choices, got {len(values)}{advice}")
    return CategoricalDistribution(values)


def _range(spec: Mapping[str, Any]) -> FloatDistribution | IntDistribution:
    if missing := [key for key in ("from", "to") if key not in spec]:
        raise ValueError(f"a range needs {missing[0]!r}, as in {{from: 0.0, to: 0.5}}")
    for key in ("from", "to"):
        if isinstance(spec[key], bool) or not isinstance(spec[key], int | float):
            raise ValueError(f"{key} must be a number, got {spec[key]!r}")
    low, high, log, step = spec["from"], spec["to"], spec.get("log", False), spec.get("step", 1)
    if not isinstance(log, bool):
        raise ValueError(f"log must be true or false, got {log!r}")
    if low >= high:
        raise ValueError(f"from must be less than to, got from {low} to {high}")
    if log and low <= 0:
        raise ValueError(f"with log, from must be more than 0, got {low}")
    is_integer = isinstance(low, int) and isinstance(high, int)
    if "step" in spec and (log or not is_integer):
        raise ValueError("step is for integers without log; leave it out, or list the choices")
    if not is_integer:
        return FloatDistribution(low, high, log)
    if high - low == 1:
        raise ValueError(
            f"there is no integer between {low} and {high}; write {low}.0 and {high}.0 for a range of floats, "
            f"or [{low}, {high}] for these two"
        )
    if isinstance(step, bool) or not isinstance(step, int) or step < 1:
        raise ValueError(f"step must be an integer of at least 1, got {step!r}")
    if rest := (high - low) % step:
        raise ValueError(f"steps of {step} from {low} do not reach {high}; end at {high - rest}")
    return IntDistribution(low, high, log, step)


def _conditions(spec: object, earlier: Mapping[str, Setting]) -> dict[str, tuple[Value, ...]]:
    if not isinstance(spec, dict) or not spec:
        raise ValueError(f"if must have settings and their choices, such as {{model.optimizer: SGD}}, got {spec!r}")
    conditions = {str(name): tuple(values if isinstance(values, list) else [values]) for name, values in spec.items()}
    for name, values in conditions.items():
        if name not in earlier:
            raise ValueError(f"if names {name}, which is not among the settings before it{did_you_mean(name, earlier)}")
        distribution = earlier[name].distribution
        if not isinstance(distribution, CategoricalDistribution):
            raise ValueError(f"if names {name}, which is a range; it must have choices")
        choices = ", ".join(map(str, distribution.choices))
        if not values:
            raise ValueError(f"if names no value of {name}; its choices are {choices}")
        for value in values:
            if value not in distribution.choices:
                raise ValueError(f"if names {value!r} for {name}, but its choices are {choices}")
    return conditions
