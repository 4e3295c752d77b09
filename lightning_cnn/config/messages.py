"""From the parser's reports to one line that names the value, the rule and a way out."""

import inspect
import re
import textwrap
from collections.abc import Iterable
from typing import Any

from lightning.pytorch import Callback
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.data import ImageDataModule
from lightning_cnn.data.augment import Augmentation
from lightning_cnn.errors import did_you_mean

#: The last word of a setting that takes a class, with the base of the classes that it takes.
BASES: dict[str, type[Any]] = {
    "model": ImageClassifier,
    "data": ImageDataModule,
    "optimizer": Optimizer,
    "scheduler": LRScheduler,
    "augment": Augmentation,
    "callbacks": Callback,
}
#: What the parser says of the ways in which a value could also have been right.
_NOISE = re.compile(
    r"NoneType|Expected a path but|either not accessible or invalid"
    r"|Problem with given class_path|Does not validate|Not a valid subclass"
    r"|a dict with parameters|Subclass types|class path|class_path entry"
    r"|^Parser key|^Errors:|^Subtypes:|^Given value"
)
_NO_CLASS = re.compile(
    r"Expected a dot import path string|not correspond to a subclass|[Nn]o module named|Unable to|has no attribute"
    r"|Unexpected import path format|Importing '.*' is not allowed"
    r"|Expected an import path|Expected '.*' to be a subclass|Dict must include a class_path"
)
_UNKNOWN = re.compile(r"(?:Option '|unrecognized arguments: --)([^'=\s]+)")
_NOTHING = re.compile(r"not supported between .*'NoneType'|'NoneType' object|unsupported operand .*'NoneType'")
#: Longest value that is shown.
_LONGEST = 100


def explain(message: str, flags: Iterable[str]) -> str:
    """Return the parser's message as one line.

    Args:
        message: What the parser reports, over several lines.
        flags: The flags that there are, to suggest from.
    """
    if message.startswith("unrecognized arguments: "):
        flag = message.split()[2].partition("=")[0]
        return f"there is no option {flag}{did_you_mean(flag, list(flags))}"
    if required := re.fullmatch(r"the following arguments are required: (.*)", message):
        keys = " and ".join(key.rpartition(".")[2] for key in sorted(required[1].split(", "), reverse=True))
        return f"{keys} not given; use --config FILE (see the folder configs), or --model and --data with class names"
    if group := re.search(r'Parser key "(?:\w+\.)?(\w+)":\s*(?:- )?Unable to load config [\'"](.*?)[\'"]', message):
        own = [flag for flag in flags if flag.startswith(f"--{group[1]}.") and not flag.endswith(".help")]
        first = own[0] if own else f"--{group[1]}.NAME"
        return (
            f"--{group[1]} {group[2]}: this is a group of settings; give one of them, such as {first}, or a YAML file"
        )
    if unknown := re.search(r"does not accept option '([^']+)'", message):
        return f"there is no setting {unknown[1]}{did_you_mean(f'--{unknown[1]}', list(flags))}"
    if name := re.search(r"Key must be a string, got: (.*?)\.|Empty nested key: (\".*?\")", message):
        return f"{name[1] or name[2]} is no name of a setting; in a config, settings are given by name"
    key, value = _key_and_value(message)
    lines = [line.strip(" -") for line in message.splitlines()]
    reasons = [reason for line in lines if (reason := _without_key(line)) and not _NOISE.search(reason)]
    option = _UNKNOWN.search(message)
    if option and not key.endswith(f".{option[1]}"):
        key = f"{key}.{option[1]}"
    setting = f"--{key}{f' {value}' if value else ''}: " if key else ""
    explained = _explain_class(key, value, message) or _explain_reasons(key, value, reasons, message)
    return setting + (explained or ("this is no value for it" if key else _all_of(message)))


def _key_and_value(message: str) -> tuple[str, str]:
    """The setting, in dots, and the value that it was given."""
    keys = list(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', message)))  # again for each way to read the value
    key = ".".join(keys)
    values = re.findall(r"(?:Got|Given) value: (.*?)(?:\. Got value: .*)?$", message, flags=re.MULTILINE)
    value = values[0] if values else ""
    if nested := re.findall(r"NestedArg\(key='([^']*)', val='?(.*?)'?\)$", message, flags=re.MULTILINE):
        inner, given = nested[-1]
        if len(keys) == 1 or f"{keys[0]}.{inner}".startswith(key):
            key, value = f"{keys[0]}.{inner}", given
    if path := re.search(r"""['"]?class_path['"]?[:=] ?'([^']*)'""", value):
        value = path[1] if _NO_CLASS.search(message) else ""
    if "Namespace(" in value or "init_args" in value:
        value = ""
    return key, value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…"


def _explain_class(key: str, value: str, message: str) -> str:
    """Say what is wrong with the name of a class, or what the class needs, if that is it."""
    setting = key.rpartition(".")[2]
    if several := re.search(r"Multiple subclasses with name \w+\..*: (.*)\.", message):
        paths = several[1].split(", ")
        chosen = [path for path in paths if path.startswith("lightning.")] or paths  # Lightning's knows what to monitor
        return f"several classes have this name; give {' or '.join(chosen)}"
    if (module := re.search(r"No module named '([^']+)'", message)) and "." in value:
        return (
            f"there is no module {module[1]!r} where Python looks; "
            "`python -m lightning_cnn` finds those in the folder that you are in"
        )
    if key and (needed := re.search(r"the following arguments are required: (.*)", message)):
        cls = _chosen(setting, message)
        first = needed[1].partition(",")[0]
        return f"{cls.__name__ if cls else 'this'} needs {needed[1]}; give --{key}.{first}"
    if _NOTHING.search(message):
        return "a setting is null that needs a value"
    if setting in BASES and "Not a valid subclass" in message and not _chosen(setting, message):
        return _no_such_class(setting, value)
    return ""


def _no_such_class(setting: str, value: str) -> str:
    known = _class_names(BASES[setting])
    return f"there is no such {setting.removesuffix('s')} class{_suggest(value.rpartition('.')[2], known)}"


def _chosen(setting: str, message: str) -> type[Any] | None:
    """The class that was chosen for a setting, as far as the message tells."""
    known = {cls.__name__: cls for cls in _subclasses(BASES[setting])} if setting in BASES else {}
    names = re.findall(r"class_path[ =]'(?:\w+\.)*(\w+)'", message)
    return next((known[name] for name in reversed(names) if name in known), None)


def _without_key(line: str) -> str:
    return re.sub(r'Parser key "[^"]+": ?| Got value:.*|Type typing\.Callable.* a callable class: ?', "", line)


def _explain_reasons(key: str, value: str, reasons: list[str], message: str) -> str:
    setting = key.rpartition(".")[2]
    for reason in reasons:
        if unknown := _UNKNOWN.search(reason):
            word = unknown[1]
            owner = key.removesuffix(f".{word}").rpartition(".")[2]
            return _explain_unknown(word, owner, _chosen(owner, message))
        if _NO_CLASS.search(reason) and setting in BASES:
            return _no_such_class(setting, value)
    telling = [reason for reason in reasons if not _NO_CLASS.search(reason)] or reasons
    telling = [reason for reason in telling if not reason.startswith("Expected a <class")] or telling
    return " or ".join(dict.fromkeys(_plain(reason) for reason in telling))


def _explain_unknown(word: str, owner: str, chosen: type[Any] | None) -> str:
    base = BASES.get(owner)
    classes = [] if base is None else [base, *_subclasses(base)]
    if any(word in _parameters(cls) for cls in classes):
        return f"the chosen {owner.removesuffix('s')} has no setting {word!r}; others have"
    known = sorted({name for cls in ([chosen] if chosen else classes) for name in _parameters(cls)})
    name = chosen.__name__ if chosen and owner == "callbacks" else owner
    return f"{name} has no setting {word!r}{_suggest(word, known)}"


def _parameters(cls: type[Any]) -> set[str]:
    """The settings of a class that a user can give."""
    given = "optimizer" if issubclass(cls, LRScheduler) else "params"
    return set(inspect.signature(cls).parameters) - {given, "network", "args", "kwargs"}


def _class_names(base: type[Any]) -> list[str]:
    return sorted({cls.__name__ for cls in _subclasses(base) if not cls.__name__.startswith("_")})


def _subclasses(base: type[Any]) -> list[type[Any]]:
    return [cls for child in base.__subclasses__() for cls in (child, *_subclasses(child))]


def _suggest(word: str, known: list[str]) -> str:
    choice = textwrap.shorten(", ".join(known), 6 * _LONGEST, placeholder=" …")
    return did_you_mean(word, known) or (f" (choose from {choice})" if known else "")


def _all_of(message: str) -> str:
    """The message itself, where there is nothing better."""
    text = _plain(" ".join(message.split()))
    return text if len(text) <= 5 * _LONGEST else f"{text[: 5 * _LONGEST]}…"


def _plain(reason: str) -> str:
    """Types as people write them: `<class 'int'>` is `int`, `typing.Literal['a', 'b']` is `'a', 'b'`."""
    reason = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", reason)
    reason = re.sub(r"typing\.Literal\[(.*)\]", r"one of \1", reason)
    return reason.replace("Expected a ", "expected ").rstrip(".")
