"""What a search may choose from: settings of `fit`, each with its choices or its range.

In YAML, a list is a choice and a mapping is a range, with both ends among its values:

    model.optimizer: [Adam, SGD]
    model.optimizer.lr: {from: 0.0001, to: 0.1, log: true}
    model.optimizer.momentum: {from: 0.0, to: 0.99, if: {model.optimizer: SGD}}
    data.batch_size: {choices: [32, 64, 128]}
    model.hidden: {from: 16, to: 128, step: 16}
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from lightning_cnn.errors import UserError

if TYPE_CHECKING:
    from optuna import Trial

#: What a setting may be.
Value: TypeAlias = bool | int | float | str | None
#: Which values other settings must have for a setting to be there; all of them, each one of several.
Conditions: TypeAlias = Mapping[str, tuple[Value, ...]]

#: What is the sweep's own to give.
RESERVED = ("config", "ckpt_path", "resume", "test", "overwrite", "trainer.default_root_dir")
_WORDS = ("choices", "from", "to", "log", "step", "if")
_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


@dataclass(frozen=True)
class Choice:
    """One of several values.

    Args:
        values: The values, at least two.
        conditions: When the setting is there.
    """

    values: tuple[Value, ...]
    conditions: Conditions = field(default_factory=dict)

    @property
    def examples(self) -> tuple[Value, ...]:
        """All values."""
        return self.values

    def suggest(self, trial: "Trial", name: str) -> Value:
        """Let a trial choose."""
        return trial.suggest_categorical(name, self.values)


@dataclass(frozen=True)
class Range:
    """A number in a range, with both ends; whole if these are.

    Args:
        low: The smallest.
        high: The largest.
        log: Whether the order of magnitude matters, as for a learning rate: 0.001 to 0.01 is as long as 0.01 to 0.1.
        step: The distance of whole numbers.
        conditions: When the setting is there.
    """

    low: float
    high: float
    log: bool = False
    step: int = 1
    conditions: Conditions = field(default_factory=dict)

    @property
    def examples(self) -> tuple[float, float]:
        """Both ends."""
        return self.low, self.high

    def suggest(self, trial: "Trial", name: str) -> float:
        """Let a trial choose."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Space:
    """All settings of a search, in the order in which trials choose and `fit` is given them.

    Args:
        settings: Each setting, by its flag without dashes.
    """

    settings: Mapping[str, Choice | Range]

    def suggest(self, trial: "Trial") -> dict[str, Value]:
        """Let a trial choose; settings whose conditions do not hold are left out."""
        chosen: dict[str, Value] = {}
        for name, setting in self.settings.items():
            if _hold(setting.conditions, chosen):
                chosen[name] = setting.suggest(trial, name)
        return chosen

    def examples(self) -> list[dict[str, Value]]:
        """Return trials in which every choice, and both ends of every range, occur at least once."""
        found = [self._example({name: value}) for name, one in self.settings.items() for value in one.examples]
        return [example for n, example in enumerate(found) if example not in found[:n]]

    def _example(self, wanted: dict[str, Value]) -> dict[str, Value]:
        """Return the trial with these values and what they are there for, and else the first of each setting."""
        for name, setting in reversed([*self.settings.items()]):
            if name in wanted:
                wanted = {**{other: values[0] for other, values in setting.conditions.items()}, **wanted}
        chosen: dict[str, Value] = {}
        for name, setting in self.settings.items():
            if _hold(setting.conditions, chosen):
                chosen[name] = wanted.get(name, setting.examples[0])
        return chosen


def build_space(content: Mapping[str, Any], source: str) -> Space:
    """Return the space that a mapping describes.

    Args:
        content: What the YAML file holds.
        source: Its name, for messages.

    Raises:
        UserError: If it is no space.
    """
    if not content:
        raise UserError(f"{source} has no settings to search; name at least one, such as model.optimizer.lr")
    settings: dict[str, Choice | Range] = {}
    for name, words in content.items():
        try:
            settings[str(name)] = _setting(str(name), words, settings)
        except _SettingError as wrong:
            raise UserError(f"{source}: {name}{wrong}") from wrong
    return Space(settings)


def repetitions(seeds: int | None, folds: int | None) -> list[dict[str, Value]]:
    """Return the settings of each run, when a config is repeated over seeds, folds or both.

    Args:
        seeds: How many seeds, from 0 on; None for that of the config.
        folds: How many folds; None for the usual validation images.
    """
    of_seeds: list[dict[str, Value]] = [{}] if seeds is None else [{"seed_everything": n} for n in range(seeds)]
    of_folds: list[dict[str, Value]] = [{}] if folds is None else [fold(n, folds) for n in range(folds)]
    return [{**one, **other} for one in of_seeds for other in of_folds]


def fold(number: int, folds: int) -> dict[str, Value]:
    """Return the settings of one fold of several."""
    return {"data.folds": folds, "data.fold": number}


def flag(name: str, value: Value) -> str:
    """Return a setting as a word of the command line."""
    text = {True: "true", False: "false", None: "null"}[value] if isinstance(value, bool | None) else str(value)
    return f"--{name}={text}"


class _SettingError(Exception):
    """What is wrong with a setting; follows its name."""


def _setting(name: str, words: object, earlier: Mapping[str, Choice | Range]) -> Choice | Range:
    if name.startswith("-"):
        raise _SettingError(f": settings have no dashes here; write {name.lstrip('-')}")
    if not _NAME.fullmatch(name):
        raise _SettingError(
            " is not the name of a setting; write a flag of `fit` without dashes, such as model.optimizer.lr"
        )
    if name in RESERVED:
        raise _SettingError(" cannot be searched: the sweep sets it for each trial")
    if isinstance(words, list):
        return Choice(_choices(words))
    if not isinstance(words, dict):
        raise _SettingError(
            f" must have choices, such as [32, 64], or a range, such as {{from: 0.0, to: 0.5}}, got {words!r}"
        )
    for word in words:
        if word not in _WORDS:
            raise _SettingError(
                f": there is no word {word!r}{_meant(str(word), _WORDS)} (known are {', '.join(_WORDS)})"
            )
    conditions = _conditions(words["if"], earlier) if "if" in words else {}
    if "choices" in words:
        if surplus := [word for word in words if word not in ("choices", "if")]:
            raise _SettingError(
                f": choices have no {surplus[0]!r}; leave it out, or give a range from … to instead of choices"
            )
        return Choice(_choices(words["choices"]), conditions)
    return _range(words, conditions)


def _choices(values: object) -> tuple[Value, ...]:
    if not isinstance(values, list):
        raise _SettingError(f": choices must be a list, such as [32, 64], got {values!r}")
    for n, value in enumerate(values):
        if not isinstance(value, bool | int | float | str | None):
            raise _SettingError(f": a choice must be a number, a word, true, false or null, got {value!r}")
        if value in values[:n]:
            raise _SettingError(f": the choice {value!r} is there twice; leave one")
    if len(values) < 2:
        advice = f"; give it to the sweep as {flag('…', values[0])}" if values else ""
        raise _SettingError(f" must have at least two choices, got {len(values)}{advice}")
    return tuple(values)


def _range(words: Mapping[str, Any], conditions: Conditions) -> Range:
    if missing := [word for word in ("from", "to") if word not in words]:
        raise _SettingError(f": a range needs {missing[0]!r}, as in {{from: 0.0, to: 0.5}}")
    low, high = (_number(word, words[word]) for word in ("from", "to"))
    log = words.get("log", False)
    if not isinstance(log, bool):
        raise _SettingError(f": log must be true or false, got {log!r}")
    if low >= high:
        raise _SettingError(f": from must be less than to, got from {low} to {high}")
    if log and low <= 0:
        raise _SettingError(f": with log, from must be more than 0, got {low}")
    whole = isinstance(low, int) and isinstance(high, int)
    if not whole:
        low, high = float(low), float(high)
    elif high - low == 1:
        raise _SettingError(
            f": nothing is between the whole numbers {low} and {high}; write {low}.0 and {high}.0 for all numbers "
            f"between, or [{low}, {high}] for these two"
        )
    return Range(low, high, log, _step(words["step"], low, high, log) if "step" in words else 1, conditions)


def _step(step: object, low: float, high: float, log: bool) -> int:
    if isinstance(low, float) or log:
        raise _SettingError(": step is for whole numbers without log; leave it out, or list the choices")
    if isinstance(step, bool) or not isinstance(step, int) or step < 1:
        raise _SettingError(f": step must be a whole number of at least 1, got {step!r}")
    if (high - low) % step:
        raise _SettingError(f": steps of {step} from {low} do not come to {high}; end at {high - (high - low) % step}")
    return step


def _number(word: str, value: object) -> float:
    if isinstance(value, str):  # YAML takes 1e-4 for text: it wants 1.0e-4
        try:
            return float(value)
        except ValueError as error:
            raise _SettingError(f": {word} must be a number, got {value!r}") from error
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _SettingError(f": {word} must be a number, got {value!r}")
    return value


def _conditions(words: object, earlier: Mapping[str, Choice | Range]) -> Conditions:
    if not isinstance(words, dict) or not words:
        raise _SettingError(
            f": if must have settings and their choices, such as {{model.optimizer: SGD}}, got {words!r}"
        )
    return {str(name): tuple(_condition(str(name), wanted, earlier)) for name, wanted in words.items()}


def _condition(name: str, wanted: object, earlier: Mapping[str, Choice | Range]) -> Iterator[Value]:
    """Yield the values that a setting must have, after a look whether it can."""
    if name not in earlier:
        raise _SettingError(f": if names {name}, which is not among the settings before it{_meant(name, earlier)}")
    setting = earlier[name]
    if not isinstance(setting, Choice):
        raise _SettingError(f": if names {name}, which is a range; it must have choices")
    for value in wanted if isinstance(wanted, list) and wanted else [wanted]:
        if value not in setting.values:
            raise _SettingError(
                f": if wants {name} to be {value!r}, but its choices are {', '.join(map(str, setting.values))}"
            )
        yield value


def _hold(conditions: Conditions, chosen: Mapping[str, Value]) -> bool:
    return all(name in chosen and chosen[name] in values for name, values in conditions.items())


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
