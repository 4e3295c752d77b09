"""Invalid configs, flags and settings in checkpoints, through `lightning-cnn fit`, `validate` and `test`.

A command must work, or print one line that says what is wrong and leave no file behind, in seconds. A module that only
the settings in a checkpoint name must not be imported.
"""

import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NoReturn
from unittest import mock

import yaml
from chaos.common import Outcome, command, saved, tiny_datasets, train

from lightning_cnn import checkpoint
from lightning_cnn.files import shipped_config

#: Seconds that a command may take.
TIME = 20
#: Characters of an error line; it may contain a long path.
LENGTH = 1500
#: Jargon of the parser and of Python.
_JARGON = ("Traceback", "Namespace(", "Parser key", "Union subtypes", "<class '")

_CONFIGS = ("mnist/cnn", "mnist/deep_cnn", "mnist/fast", "fashion_mnist/mlp", "fashion_mnist/shallow_cnn")
#: Always refused, but only after all else has been read.
_REFUSED_LATE = ("--model.std", "0")
#: Keeps a training that is not refused short, and in this process.
_SMALL = (
    "--trainer.fast_dev_run true --trainer.devices 1 --trainer.strategy auto --trainer.num_nodes 1 "
    "--trainer.accelerator cpu --data.val_size 50 --trainer.plugins null"
)

_CLASSES = (
    "torch.optim.SGD torch.nn.Linear CNNClassifier lightning_cnn.cli.main EarlyStopping Timer "
    "ReduceLROnPlateau lightning.pytorch.callbacks.ModelCheckpoint nowhere.Class os.system this.s "
    "builtins.eval torch.optim.sys lightning_cnn.os.system subprocess.Popen antigravity.fly a..b"
)
#: Settings that take classes.
_CLASS_SETTINGS = (
    *(("model", name) for name in ("optimizer", "scheduler")),
    ("data", "augment"),
    *(("trainer", name) for name in ("callbacks", "logger", "profiler", "strategy", "plugins", "accelerator")),
)
_MARKS = "- --model *x &x !x { [ [1 true null 1e3 .nan nan 1e999 2024-13-45 0x_ 1:2 = %s{0} ~ .. s3://a/b"
_TEXTS = (*_MARKS.split(), "", " ", "\n", "{a: 1}", "a: b: c", "x" * 500, "é😀‮", "\x00", "\x1b[31m")
_FLAGS = (
    "model data trainer model.optimizer model.optimizer.lr model.scheduler model.std model.x.y "
    "data.augment data.augment.x data.batch_size trainer.callbacks trainer.callbacks+ trainer.logger "
    "trainer.max_epochs trainer.precision trainer.limit_train_batches trainer.profiler "
    "trainer.gradient_clip_val seed_everything plots plots.test_images checkpoints test c"
)
_NUMBERS = (0, 1, -1, 2, 3.5, -0.0, 1e-320, 1e308, float("nan"), float("-inf"), 2**31, 2**63, 10**30, -(2**70))


class Hanging(BaseException):
    """A command takes too long."""


@dataclass
class Case:
    """A command, and the files that it reads."""

    argv: list[str]
    files: dict[str, bytes]
    trains: bool = False

    def __str__(self) -> str:
        files = ", ".join(f"{name}: {content[:300]!r}" for name, content in self.files.items() if name != "c.ckpt")
        return f"{' '.join(argument[:200] for argument in self.argv)} ({files})"


# Settings


def _value(rng: Random, depth: int = 0) -> Any:
    kind = rng.randrange(8 if depth < 3 else 6)
    if kind == 6:
        return [_value(rng, depth + 1) for _ in range(rng.randrange(3))]
    if kind == 7:
        keys = ("class_path", "init_args", "dict_kwargs", "lr", "__path__", "a.b", "x", 1, None)
        return {rng.choice(keys): _value(rng, depth + 1) for _ in range(rng.randrange(3))}
    return rng.choice(rng.choice((_TEXTS, _CLASSES.split(), _NUMBERS, (None, True, False))))


def _containers(content: Any) -> Iterator[dict[Any, Any] | list[Any]]:
    if isinstance(content, dict | list):
        yield content
        for item in list(content.values() if isinstance(content, dict) else content):
            yield from _containers(item)


def _change(rng: Random, content: dict[str, Any]) -> None:
    """Change one setting somewhere: its value, its name, or where it is."""
    container = rng.choice([c for c in _containers(content) if c] or [content])
    if isinstance(container, list) or not container:
        container.clear()
        return
    key = rng.choice(list(container))
    match rng.randrange(7):
        case 0:
            del container[key]
        case 1:
            container[f"{key}{rng.choice('sx_.+ ')}"] = container.pop(key)
        case 2:
            container[key] = {key: container[key]}
        case 3:
            container[key] = [container[key]]
        case 4:
            container[rng.choice(("class_path", "init_args", "config", "ckpt_path", "lr", "", "é"))] = _value(rng)
        case _:
            container[key] = _value(rng)


def _shipped(rng: Random) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(shipped_config(f"{rng.choice(_CONFIGS)}.yaml").read_text())
    return content


# Cases


def _changed_settings(rng: Random, valid: dict[str, Any]) -> Case:
    content = _shipped(rng)
    for _ in range(rng.choice((1, 1, 2, 5))):
        _change(rng, content)
    return Case(["fit", "--config", "c.yaml"], {"c.yaml": yaml.safe_dump(content, sort_keys=False).encode()})


def _changed_text(rng: Random, valid: dict[str, Any]) -> Case:
    lines = shipped_config(f"{rng.choice(_CONFIGS)}.yaml").read_text().splitlines()
    for _ in range(rng.choice((1, 1, 3))):
        at = rng.randrange(len(lines))
        match rng.randrange(5):
            case 0:
                lines.insert(at, lines[at])
            case 1:
                lines[at] = f"{' ' * rng.randrange(4)}{lines[at]}"
            case 2:
                lines[at] = lines[at].replace(
                    ": ", rng.choice((":", ": &a ", ": *a ", ": !!python/name:os.system ", ": |"))
                )
            case 3:
                lines[at] += rng.choice(_TEXTS)
            case _:
                lines.insert(at, rng.choice(("---", "...", "<<: *x", "\t", "? [a]", "%YAML 9.9", "- 1")))
    return Case(["fit", "--config", "c.yaml"], {"c.yaml": "\n".join(lines).encode()})


def _changed_bytes(rng: Random, valid: dict[str, Any]) -> Case:
    content = bytearray(shipped_config(f"{rng.choice(_CONFIGS)}.yaml").read_bytes())
    for _ in range(rng.choice((1, 4, 40))):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return Case(["fit", "--config", "c.yaml"], {"c.yaml": bytes(content[: rng.choice((None, rng.randrange(400)))])})


def _whole(rng: Random, valid: dict[str, Any]) -> Case:
    """A config that is an alias bomb, nested too deeply, too large, or noise."""
    depth, width = rng.choice(((9, 9), (40, 3), (2000, 2))), rng.choice(("[{}]", "{{<<: [{}]}}", "{{x: [{}]}}"))
    bomb = ["a0: &a0 {x: 1}"] + [
        f"a{n}: &a{n} {width.format(', '.join([f'*a{n - 1}'] * depth[1]))}" for n in range(1, depth[0])
    ]
    contents = (
        "\n".join(bomb).encode(),
        rng.choice((b"[", b"{a: ", b"- ", b"? ", b"{", b"!!seq [")) * rng.choice((60, 3000, 100_000)),
        b"trainer: " + b"[" * 3000 + b"]" * 3000,
        b"trainer: {max_epochs: " + b"9" * rng.choice((30, 5000)) + b"}",
        b"#" * 2_000_000,
        rng.randbytes(rng.randrange(300)),
        "".join(chr(rng.randrange(1, 0x300)) for _ in range(rng.randrange(200))).encode(),
        "trainer: {max_epochs: 1}".encode(rng.choice(("utf-16", "utf-32", "utf-8-sig", "utf-7"))),
        rng.choice((b"", b"~", b"7", b"text", b"[]", b"{}", b"a: &a [*a]", b"a: *a", b"---\n---\n", b"\x00")),
    )
    flag = rng.choice(("--config", "--config", "--config", "--model", "--trainer", "--data", "--model.optimizer"))
    return Case(
        ["fit", "--config", str(shipped_config("mnist/cnn.yaml")), flag, "c.yaml"], {"c.yaml": rng.choice(contents)}
    )


def _flags(rng: Random, valid: dict[str, Any]) -> Case:
    argv = ["fit", "--config", str(shipped_config(f"{rng.choice(_CONFIGS)}.yaml"))]
    for _ in range(rng.choice((1, 1, 2, 3))):
        flag, value = f"--{rng.choice(_FLAGS.split())}", _value(rng)
        text = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True, width=10**6)
        text = text.removesuffix("\n...\n")
        argv += [f"{flag}={text}"] if rng.random() < 0.5 else [flag, text]
    return Case(argv, {})


def _training(rng: Random, valid: dict[str, Any]) -> Case:
    content = _shipped(rng)
    for section in rng.sample(("model", "trainer", "data"), rng.choice((0, 1, 2))):
        _change(rng, content.setdefault(section, {}))
    return Case(["fit", "--config", "c.yaml"], {"c.yaml": yaml.safe_dump(content).encode()}, trains=True)


def _checkpoint(rng: Random, valid: dict[str, Any]) -> Case:
    """A checkpoint with the planted module somewhere in its settings."""
    content = deepcopy({**valid, checkpoint.KEY: dict(valid[checkpoint.KEY])})
    path = f"planted.{rng.choice(('Class', 'function', 'Popen', 'missing', 'Class.method'))}"
    spec = {"class_path": path, "init_args": {}}
    deep: Any = spec
    for _ in range(rng.choice((0, 0, 0, 5, 40, 100))):
        deep = [deep]
    forms = (
        *(path, spec, [spec], [path], deep, {"class_path": [path]}, (path,), "planted.yaml", "./planted.yaml"),
        *(f"{{class_path: {path}}}", f"class_path: {path}"),
        {"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"on_fit_start": path}},
        {"class_path": "torch.optim.SGD", "dict_kwargs": {"foreach": spec}},
    )
    config = content[checkpoint.KEY]["config"]
    for _ in range(rng.choice((1, 1, 3))):
        section, *names = rng.choice(_CLASS_SETTINGS) if rng.random() < 0.6 else (rng.choice(list(config)),)
        place = config.setdefault(section, {})
        place = place.setdefault("init_args", {}) if isinstance(place, dict) and section in ("model", "data") else place
        if not names or not isinstance(place, dict):
            place = rng.choice([c for c in _containers(config) if isinstance(c, dict)])
            names = [rng.choice([*place, "class_path", "config", "__class__", "a.class_path"])]
        place[names[0]] = rng.choice(forms)
    if rng.random() < 0.3:
        _change(rng, config)
    files = {"c.ckpt": saved(content), "planted.yaml": f"class_path: {path}\n".encode()}
    verb = rng.choice(("fit", "test", "validate"))
    return Case([verb, "--ckpt_path", "c.ckpt"], {**files, "settings": repr(config)[:1000].encode()})


_KINDS: tuple[Callable[[Random, dict[str, Any]], Case], ...] = (
    *(_changed_settings, _changed_text, _changed_bytes, _whole, _flags, _flags, _checkpoint, _checkpoint, _checkpoint),
    _training,
)


# The run


def run(tries: int, seed: int, folder: Path) -> Outcome:
    """Run invalid commands of each kind in turn, in an empty folder."""
    planted, work = folder / "planted", folder / "work"
    planted.mkdir(parents=True)
    work.mkdir()
    (planted / "planted.py").write_text(
        f"from pathlib import Path\nfrom subprocess import Popen\nPath({str(folder / 'imported')!r}).touch()\n"
        "class Class:\n    def method(self): pass\ndef function(*_): pass\n"
    )
    lost = []
    with tiny_datasets(folder / "data"), chdir(work), mock.patch("sys.path", [str(planted), *sys.path]):
        valid = checkpoint.read(train(folder, "fashion_mnist/mlp.yaml") / "checkpoints/last.ckpt")
        for number in range(tries):
            case = _KINDS[number % len(_KINDS)](Random(f"{seed} {number}"), valid)
            case.argv += _SMALL.split() if case.trains else _REFUSED_LATE
            case.argv += ["--data.data_dir", str(folder / "data")]
            if fault := _fault(case, folder):
                lost.append(f"try {number} of seed {seed}: {case}: {fault}")
    return Outcome("invalid configs, flags and settings in checkpoints", tries, lost)


def _fault(case: Case, folder: Path) -> str | None:
    """Run a command, and return what was wrong with its result."""
    for name, content in case.files.items():
        Path(name).write_bytes(content)
    before = _names()
    try:
        with _in_time():
            status, printed = command(*case.argv)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        where = " < ".join(
            f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[-4:]
        )
        return f"{type(error).__name__}: {str(error)[:300]} ({where})"
    left = _names() - before
    for name in case.files:
        Path(name).unlink()
    errors = [line for line in printed.splitlines() if "error: " in line]
    if (folder / "imported").exists() or "planted" in sys.modules:
        (folder / "imported").unlink(missing_ok=True)
        sys.modules.pop("planted", None)
        return "imported what only a checkpoint names"
    if status not in (0, 1, 2) or len(errors) != (status != 0) or (status == 0 and not case.trains):
        return f"status {status}, {len(errors)} errors: {printed[-500:]!r}"
    if any(word in printed for word in _JARGON) or any(len(line) > LENGTH for line in errors):
        return f"not clear: {errors[:1] or printed[-500:]!r}"
    return f"left behind: {sorted(left)}" if left else None


def _names() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


@contextmanager
def _in_time() -> Iterator[None]:
    def stop(signum: int, frame: object) -> NoReturn:
        raise Hanging(f"more than {TIME} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(TIME)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
