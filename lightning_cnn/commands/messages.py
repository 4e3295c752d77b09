"""From the parser's reports to one line that names the value, the rule and a way out."""

import inspect
import re
from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Callback
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.cli import suggest
from lightning_cnn.data import ImageDataModule
from lightning_cnn.data.augment import Augmentation

#: The last word of a setting that takes a class, with the base of the classes that it takes.
_BASES: dict[str, type[Any]] = {
    "model": ImageClassifier,
    "data": ImageDataModule,
    "optimizer": Optimizer,
    "scheduler": LRScheduler,
    "augment": Augmentation,
    "callbacks": Callback,
}
#: What the parser says of the ways in which a value could also have been right.
_NOISE = re.compile(
    r"NoneType|Expected a path but|Problem with given class_path|Does not validate|Not a valid subclass"
    r"|a dict with parameters|Subclass types|class path|class_path entry"
    r"|^Parser key|^Errors:|^Subtypes:|^Given value"
)
_NO_CLASS = re.compile(
    r"Expected a dot import path string|not correspond to a subclass|[Nn]o module named|Unable to|has no attribute"
)


def explain(message: str, flags: Iterable[str]) -> str:
    """Return the parser's message as one line.

    Args:
        message: What the parser reports, over several lines.
        flags: The flags that there are, to suggest from.
    """
    if message.startswith("unrecognized arguments: "):
        flag = message.split()[2].partition("=")[0]
        return f"there is no option {flag}{suggest(flag, list(flags))}"
    if required := re.fullmatch(r"the following arguments are required: (.*)", message):
        keys = " and ".join(key.rpartition(".")[2] for key in sorted(required[1].split(", "), reverse=True))
        return f"{keys} not given; use --config FILE (see the folder configs), or --model and --data with class names"
    if group := re.search(r'Parser key "(?:\w+\.)?(\w+)":\s*(?:- )?Unable to load config [\'"](.*?)[\'"]', message):
        own = [flag for flag in flags if flag.startswith(f"--{group[1]}.") and not flag.endswith(".help")]
        first = own[0] if own else f"--{group[1]}.NAME"
        return (
            f"--{group[1]} {group[2]}: this is a group of settings; give one of them, such as {first}, or a YAML file"
        )
    key, value = _key_and_value(message)
    lines = [line.strip(" -") for line in message.splitlines()]
    reasons = [reason for line in lines if (reason := _without_key(line)) and not _NOISE.search(reason)]
    setting = f"--{key}{f' {value}' if value else ''}: " if key else ""
    return setting + (_explain_reasons(key, value, reasons) or " ".join(message.split()))


def _key_and_value(message: str) -> tuple[str, str]:
    """The setting, in dots, and the value that it was given."""
    key = ".".join(re.findall(r'Parser key "([^"]+)"', message))
    nested = re.search(r"NestedArg\(key='([^']*)', val='?(.*?)'?\)$", message, flags=re.MULTILINE)
    plain = re.search(r"Given value: (.*)|Got value: (.*)", message)
    if nested:
        owner = key.partition(".")[0]
        return f"{owner}.{nested[1]}", nested[2]
    value = (plain[1] or plain[2]) if plain else ""
    return key, "" if value.startswith("Namespace(") else value


def _without_key(line: str) -> str:
    return re.sub(r'Parser key "[^"]+": ?| Got value: .*|Type typing\.Callable.* a callable class: ?', "", line)


def _explain_reasons(key: str, value: str, reasons: list[str]) -> str:
    setting = key.rpartition(".")[2]
    for reason in reasons:
        if unknown := re.search(r"Option '([^']+)' is not accepted", reason):
            word = unknown[1].rpartition(".")[2]
            owner = key.removesuffix(f".{word}").rpartition(".")[2]
            known = _parameters(owner)
            if word in known:
                return f"the chosen {owner} has no setting {word!r}; others have"
            return f"{owner} has no setting {word!r}{suggest(word, known) or _choose(known)}"
        if _NO_CLASS.search(reason) and setting in _BASES:
            known = _class_names(_BASES[setting])
            hint = suggest(value.rpartition(".")[2], known) or _choose(known)
            return f"there is no such {setting.removesuffix('s')} class{hint}"
    telling = [reason for reason in reasons if not _NO_CLASS.search(reason)] or reasons
    return " or ".join(dict.fromkeys(_plain(reason) for reason in telling))


def _parameters(owner: str) -> list[str]:
    """The settings of all classes that could be meant."""
    base = _BASES.get(owner)
    classes = [] if base is None else [base, *_subclasses(base)]
    names = {name for cls in classes for name in inspect.signature(cls).parameters}
    return sorted(names - {"params", "network", "args", "kwargs", *(["scheduler"] if base is Optimizer else [])})


def _class_names(base: type[Any]) -> list[str]:
    return sorted({cls.__name__ for cls in _subclasses(base) if not cls.__name__.startswith("_")})


def _subclasses(base: type[Any]) -> list[type[Any]]:
    return [cls for child in base.__subclasses__() for cls in (child, *_subclasses(child))]


def _choose(known: list[str]) -> str:
    return f" (choose from {', '.join(known)})" if known else ""


def _plain(reason: str) -> str:
    """Types as people write them: `<class 'int'>` is `int`, `typing.Literal['a', 'b']` is `'a', 'b'`."""
    reason = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", reason)
    reason = re.sub(r"typing\.Literal\[(.*)\]", r"one of \1", reason)
    return reason.replace("Expected a ", "expected ")
