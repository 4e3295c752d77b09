"""Run folders that others have made, in every command that reads the files of a run, or writes into its folder."""

import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hostile.common import OUTSIDE, Case
from runs import CLASSES, CONFIG, DATA, ENVIRONMENT, METRICS, PREDICTIONS, TEST, png, write_run

#: What makes a file: its text, its bytes, its size if it is sparse, or a function of its path.
Content = str | bytes | int | Callable[[Path], object]

HEADER = "epoch,step,train/acc,train/loss,val/acc,val/loss\n"
PREDICTED = "index,true,predicted,confidence,loss\n"
REPORT = ("runs/a/report.html",)
DEEP = "[" * 100_000
BOMB = "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


def _aliases(most: int, text: int, where: str) -> str:
    return f"a: &a {'x' * text}\n{where}: [{','.join(['*a'] * most)}]\n"


def _test(**more: Any) -> str:
    return json.dumps({**TEST, **more})


def _many_epochs(path: Path) -> None:
    path.write_text(HEADER + "".join(f"{n},{n},0.5,0.5,0.5,0.{n}\n" for n in range(1_000_000)))


def _many_steps(path: Path) -> None:
    row = b"0,1,,,,\n" * 1_000_000
    with path.open("wb") as file:
        file.write(HEADER.encode())
        for _ in range(30):  # the limit on what may be written is 256 MB
            file.write(row)
        file.write(b"0,1,0.5,0.5,0.5,0.5\n")


def _many_values(path: Path) -> None:
    row = b"0,1,1,1,1,1\n" * 1_000_000
    with path.open("wb") as file:
        file.write(HEADER.encode())
        for _ in range(12):
            file.write(row)


def _many_predictions(path: Path) -> None:
    path.write_text(PREDICTED + "0,Bag,Bag,0.5,1\n" * 1_500_000)


def _link(target: str) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        path.unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
        path.symlink_to(target)

    return make


def _folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _huge_png() -> bytes:
    return png(8, 4).replace(struct.pack(">II", 8, 4), struct.pack(">II", 2**31 - 1, 2**31 - 1), 1)


_MANY_CLASSES = [f"class {n}" for n in range(100_000)]

#: What a report must refuse: the files of a folder that is sound otherwise.
REFUSED: dict[str, Mapping[str, Content]] = {
    "aliases of aliases": {"config.yaml": "a: &a [x,x,x,x,x,x,x,x,x]\n" + BOMB + "seed_everything: *h\n"},
    "aliases of long text": {"config.yaml": _aliases(20_000, 5_000, "seed_everything")},
    "aliases of long text in two settings": {"config.yaml": _aliases(500, 30_000, "trainer")},
    "an alias of itself": {"config.yaml": "a: &a [*a]\n"},
    "merges of merges": {
        "config.yaml": "a: &a {x: 1}\n" + "".join(f"b{n}: &b{n} {{<<: [*a,*a,*a]}}\n" for n in range(3)) + "c: {<<: *d}"
    },
    "deep lists in YAML": {"config.yaml": f"a: {'[' * 3000}{']' * 3000}\n"},
    "deep mappings in YAML": {"config.yaml": "".join(" " * n + "a:\n" for n in range(400))},
    "a tag": {"config.yaml": "a: !!python/object/apply:os.system ['touch evil']\n"},
    "a tag of an own class": {"config.yaml": "!evil {a: 1}\n"},
    "two documents": {"config.yaml": "a: 1\n---\nb: 2\n"},
    "a key twice": {"config.yaml": "trainer: {}\ntrainer: {}\n"},
    "a list for settings": {"config.yaml": "- 1\n"},
    "NaN in YAML": {"config.yaml": "a: .nan\n"},
    "a long number in YAML": {"config.yaml": f"a: {'9' * 50_000}\n"},
    "a hexadecimal number": {"config.yaml": f"a: 0x{'f' * 50_000}\n"},
    "NUL in YAML": {"config.yaml": b"a: \0\n"},
    "YAML in UTF-16": {"config.yaml": "a: 1\n".encode("utf-16")},
    "YAML of a terabyte": {"config.yaml": 2**40},
    "no YAML": {"config.yaml": "a: [1, 2\nb: }"},
    "deep JSON": {"test_metrics.json": DEEP},
    "deep JSON that is closed": {"test_metrics.json": f'{{"a": {DEEP}{"]" * 100_000}}}'},
    "deep objects": {"data.json": '{"a":' * 5_000},
    "JSON of a terabyte": {"environment.json": 2**40},
    "JSON of five megabytes": {"environment.json": json.dumps({"a": "x" * 5_000_000})},
    "NaN in JSON": {"test_metrics.json": _test(**{"test/loss": float("nan")})},
    "infinity in JSON": {"data.json": '{"dataset": Infinity}'},
    "a number beyond all floats": {"environment.json": '{"parameters": 1e999999}'},
    "a long number in JSON": {"environment.json": f'{{"parameters": {"9" * 100_000}}}'},
    "a key twice in JSON": {"data.json": '{"dataset": "a", "dataset": "b"}'},
    "JSON that is no text": {"data.json": b"\xff\xfe\x00"},
    "a list for an object": {"test_metrics.json": "[]"},
    "loggers that are none": {"environment.json": '{"loggers": 3}'},
    "an earlier environment that is none": {"environment.json": '{"earlier": "x"}'},
    "no number of images": {"test_metrics.json": _test(images="8")},
    "a class without a name": {"test_metrics.json": _test(class_names=[1, 2, 3])},
    "another number of images": {"test_metrics.json": _test(images=10**12)},
    "a class that is unknown": {"test_predictions.csv": PREDICTED + "0,x,Bag,0.5,1\n" * 8},
    "predictions without end": {"test_predictions.csv": "x" * 10_000_000},
    "a row without end": {"test_predictions.csv": PREDICTED + "1," * 5_000_000},
    "a quoted field without end": {"test_predictions.csv": PREDICTED + '"' + "a\n" * 5_000_000},
    "predictions of a terabyte": {"test_predictions.csv": 2**40},
    "predictions by the million": {"test_predictions.csv": _many_predictions},
    "a position of many digits": {"test_predictions.csv": PREDICTED + f"{'9' * 4_000},Bag,Bag,0.5,1\n" * 8},
    "a position beyond 64 bits": {"test_predictions.csv": PREDICTED + "9" * 20 + ",Bag,Bag,0.5,1\n" * 8},
    "a confidence of two": {"test_predictions.csv": PREDICTED + "0,Bag,Bag,2,1\n" * 8},
    "metrics of a terabyte": {"metrics.csv": 2**40},
    "metrics of zeros": {"metrics.csv": 2**29},
    "metrics by the million": {"metrics.csv": _many_values},
    "a header without end": {"metrics.csv": "a," * 5_000_000},
    "a line of metrics without end": {"metrics.csv": HEADER + "1," * 5_000_000},
    "a metric of many digits": {"metrics.csv": HEADER + f"0,1,0.5,{'9' * 1_000_000},,\n"},
    "an epoch of many digits": {"metrics.csv": HEADER + f"{'9' * 90},1,0.5,1,,\n"},
    "an epoch beyond all": {"metrics.csv": HEADER + "1e300,1,0.5,1,,\n"},
    "a negative epoch": {"metrics.csv": HEADER + "-1,1,0.5,1,,\n"},
    "a metric that is text": {"metrics.csv": HEADER + "0,1,=cmd,1,,\n"},
    "more values than columns": {"metrics.csv": HEADER + "0,1,1,1,1,1,1,1\n"},
    "metrics that are no text": {"metrics.csv": b"\xff" * 100 + b"\n\xff\n"},
    "a figure of a terabyte": {"plots/samples.png": 2**40},
    "a figure of ten megabytes": {"plots/mistakes.png": png(8, 4) + bytes(10_000_000)},
    "a figure of huge sides": {"plots/predictions.png": _huge_png()},
    "a figure without sides": {"plots/samples.png": png(0, 0)},
    "a figure that is none": {"plots/samples.png": b"GIF89a" + bytes(100)},
    "a link in place of the page": {"report.html": _link(f"../../{OUTSIDE}/page.html")},
    "a link to a file of the user's in place of the page": {"report.html": _link("../../mine")},
}

#: What a report may show, or refuse.
SHOWN: dict[str, Mapping[str, Content]] = {
    "one late epoch": {"metrics.csv": "epoch,step,train/loss\n999998,1,0.5\n"},
    "a million epochs": {"metrics.csv": _many_epochs},
    "thirty million steps": {"metrics.csv": _many_steps},
    "lines without content": {"metrics.csv": HEADER + "\n" * 20_000_000},
    "ten thousand metrics": {"metrics.csv": "epoch," + ",".join(f"val/m{n}" for n in range(10_000)) + "\n"},
    "values that overflow": {"metrics.csv": HEADER + "0,1,1e308,-1e308,1e308,1e308\n1,2,-1e308,1e308,inf,-inf\n"},
    "values close to zero": {"metrics.csv": HEADER + "0,1,5e-324,5e-324,0,-5e-324\n1,2,0,-5e-324,5e-324,0\n"},
    "a hundred thousand classes": {"test_metrics.json": _test(class_names=[*CLASSES, *_MANY_CLASSES])},
    "names with markup": {"test_metrics.json": _test(checkpoint="<script>alert(1)</script>")},
    "names that are no text": {"data.json": '{"dataset": "\\ud800", "origin": "\\udfff", "sample": false}'},
    "names with control sequences": {"data.json": '{"dataset": "\\u001b[2J", "origin": "\\u0000", "sample": false}'},
    "long names": {"data.json": json.dumps({**DATA, "dataset": "x" * 3_000_000})},
    "lists for settings": {
        "config.yaml": "trainer: []\nmodel: []\ndata: 1\ncheckpoints: [1]\nseed_everything: {a: [1]}"
    },
    "many settings": {"config.yaml": "a: [" + "a," * 45_000 + "]\n"},
    "a monitor that is none": {"config.yaml": CONFIG + "checkpoints:\n  monitor: [1, {a: b}]\n  mode: 7\n"},
    "settings in odd places": {
        "config.yaml": "model: {class_path: [1], init_args: {network: 3, loss: {class_path: {}}}}"
    },
    "huge numbers": {"environment.json": json.dumps({**ENVIRONMENT, "parameters": 2**63 - 1, "versions": {"a": DEEP}})},
    "a checkpoint of a terabyte": {"checkpoints/best.ckpt": 2**40},
    "a pipe for settings": {"config.yaml": _pipe},
    "a pipe for metrics": {"metrics.csv": _pipe},
    "a pipe for a checkpoint": {"checkpoints/best.ckpt": _pipe},
    "a folder for results": {"test_metrics.json": _folder},
    "a device for predictions": {"test_predictions.csv": _link("/dev/zero")},
    "a device for a figure": {"plots/samples.png": _link("/dev/urandom")},
    "a link that leads round": {"report.html": _link("report.html")},
    "a link that leads round for settings": {"config.yaml": _link("config.yaml")},
}

#: Folders of runs that are to be trained on, tested or validated.
CHANGED: dict[str, Mapping[str, Content]] = {
    "metrics through a link": {"metrics.csv": _link(f"../../{OUTSIDE}/metrics.csv")},
    "settings through a link": {"config.yaml": _link(f"../../{OUTSIDE}/config.yaml")},
    "figures through a link": {"plots": _link(f"../../{OUTSIDE}")},
    "a lock through a link": {".lock": _link(f"../../{OUTSIDE}/lock")},
    "a checkpoint through a link": {"checkpoints/previous.ckpt": _link(f"../../{OUTSIDE}/x.ckpt")},
    "steps that are none": {"metrics.csv": "epoch,step,val/acc\n0,x,0.5\n"},
    "no steps": {"metrics.csv": "epoch,val/acc\n0,0.5\n"},
    "metrics of a terabyte": {"metrics.csv": 2**40},
    "a line of metrics without end": {"metrics.csv": "epoch,step\n" + "1," * 5_000_000},
    "a deep environment": {"environment.json": DEEP},
    "loggers that are none": {"environment.json": '{"loggers": 3}'},
}
TESTED: dict[str, Mapping[str, Content]] = {
    "results through a link": {"test_metrics.json": _link(f"../../{OUTSIDE}/x.json")},
    "predictions through a link": {"test_predictions.csv": _link(f"../../{OUTSIDE}/x.csv")},
    "figures through a link": {"plots": _link(f"../../{OUTSIDE}")},
    "deep results": {"test_metrics.json": DEEP},
    "results of a terabyte": {"test_metrics.json": 2**40},
    "results that are none": {"test_metrics.json": '{"shortened": false}'},
}


def cases(run: Path) -> Iterator[Case]:
    """Yield a case for each folder; `run` is a sound one."""
    for name, files in REFUSED.items():
        yield Case(f"report, {name}", ("report", "runs/a"), _sound(files))
    for name, files in SHOWN.items():
        yield Case(f"report, {name}", ("report", "runs/a"), _sound(files), writes=REPORT, may_work=True)
    for name in ("aliases of long text", "deep JSON", "metrics by the million", "a link in place of the page"):
        yield Case(f"comparison, {name}", ("report", "runs/b", "runs/a"), _two(REFUSED[name]))
    for name in ("one late epoch", "many settings", "values that overflow", "a monitor that is none"):
        writes = (*REPORT, "runs/b/report.html", "comparison.html")
        argv = ("report", "runs/b", "runs/a")
        yield Case(f"comparison, {name}", argv, _two(SHOWN[name]), writes=writes, may_work=True)
    for name, files in CHANGED.items():
        yield Case(f"fit, {name}", ("fit", "runs/a", "--trainer.max_epochs", "3"), _trained(run, files))
    for name, files in TESTED.items():
        yield Case(f"test, {name}", ("test", "runs/a"), _trained(run, files))


def _put(folder: Path, files: Mapping[str, Content]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        elif isinstance(content, int):
            with path.open("wb") as file:
                file.truncate(content)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def _sound(files: Mapping[str, Content]) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / "mine").write_text("precious")
        _put(write_run(folder / "runs" / "a"), files)

    return make


def _two(files: Mapping[str, Content]) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        write_run(folder / "runs" / "b", metrics=METRICS, predictions=PREDICTIONS)
        _put(write_run(folder / "runs" / "a"), files)

    return make


def _trained(run: Path, files: Mapping[str, Content]) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        shutil.copytree(run, folder / "runs" / "a")
        _put(folder / "runs" / "a", files)

    return make
