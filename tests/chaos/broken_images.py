"""Broken image files with difficult names, in one folder with valid ones, through `lightning-cnn predict`.

stderr must name each broken file with a reason, unless it still contains an image. The predictions of valid files must
be the same as without the others, nothing else may be printed or written, and memory and time are limited.
"""

import csv
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
from chaos.common import Outcome, tiny_datasets, train
from chaos.image_faults import EITHER, FAULTS, ONCE, REFUSED, SUFFIXES, Fault, Place, encoded
from idx import images_and_labels
from PIL import Image

from lightning_cnn.cli import main
from lightning_cnn.predict.output import printable

#: MiB by which the resident memory may grow: 50 megapixels, and a batch.
MEMORY = 800
#: Seconds per file, on average.
TIME = 1.0

#: Starts of names that a shell, a terminal, a spreadsheet or a format string would interpret.
_NAMES = (
    *("", "-", "--output=", "=1+1", "@", " ", "a\nb", "\r", "\x1b[31m", "\x07", "a..", "*", "[1]", "?", "~", "\\..\\"),
    *("$(touch pwned)", "`id`", ";id;", "%s%n", "{0}", "<b>", '"', "'", "é", "‮", "😀", "\udcff", "n" * 200),
)


@dataclass
class Result:
    """The result of `predict`: exit status, lines on stderr, rows of the table, growth of memory (MiB), seconds."""

    status: int = 0
    lines: list[str] = field(default_factory=list)
    rows: dict[str, tuple[str, float]] = field(default_factory=dict)
    growth: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Broken:
    """A broken file: where it is, how it was made, and of which valid file."""

    path: Path
    fault: Fault | Place
    valid: Path


def run(tries: int, seed: int, folder: Path) -> Outcome:
    """Predict a folder of `tries` broken images and some valid ones."""
    rng = Random(seed)
    folder.mkdir(exist_ok=True)
    with tiny_datasets(folder / "data"):
        checkpoint = train(folder, "mnist/cnn.yaml")
    images = folder / "images"
    images.mkdir()
    valid = _write_valid(images, seed)
    alone = _predict(checkpoint, images, folder / "alone.csv")
    broken = [_break(number, valid, rng) for number in range(tries)]
    before = _listing(folder)
    result = _predict(checkpoint, images, folder / "all.csv")
    written = sorted({path for path, state in _listing(folder).items() if before.get(path) != state} - {"all.csv"})

    lost = [f"{one.path.name!r} ({one.fault.what}, seed {seed}): {wrong}" for one, wrong in _all_wrong(broken, result)]
    for path in valid:
        now, then = _row(path, result), _row(path, alone)
        lost += [] if _alike(now, then) else [f"{path.name}, valid: {now}, but alone {then}"]
    lost += _wrong_in_all(broken, result)
    lost += [f"{path} was written or changed" for path in written]
    lost += [f"memory grew by {result.growth:.0f} MiB"] if result.growth > MEMORY else []
    lost += [f"took {result.seconds:.0f} s"] if result.seconds > TIME * (tries + len(valid)) else []
    return Outcome(f"broken images in a folder (memory grew by {result.growth:.0f} MiB)", tries, lost)


def _all_wrong(broken: list[Broken], result: Result) -> Iterator[tuple[Broken, str]]:
    """Yield the broken files with a wrong result, and that result."""
    for one in broken:
        if wrong := _wrong(one, result):
            yield one, wrong


def _wrong_in_all(broken: list[Broken], result: Result) -> list[str]:
    """Return what is wrong with the exit status or with the other lines on stderr."""
    starts = tuple(_error_start(one.path) for one in broken)
    rest = [line for line in result.lines if not line.startswith(starts)]
    if result.status == 1 and len(rest) == 2 and rest[0].startswith("Checkpoint: ") and " predicted, " in rest[1]:
        return []
    return [f"exit status {result.status}, and besides the errors stderr has {rest}"]


def _error_start(path: Path) -> str:
    """The start of the error line of a file."""
    return f"lightning-cnn: error: {printable(str(path))}: "


def _wrong(broken: Broken, result: Result) -> str:
    """Return what is wrong with the result of a broken file."""
    errors = [line for line in result.lines if line.startswith(_error_start(broken.path))]
    row, fate = _row(broken.path, result), broken.fault.fate
    if len(errors) + (row is not None) != 1:
        return f"{len(errors)} errors, predicted as {row}"
    if fate != EITHER and (row is None) != (fate == REFUSED):
        return f"must be {fate}, but {errors[0] if errors else row}"
    if errors and "; " not in errors[0]:
        return f"no advice in: {errors[0]}"
    if isinstance(broken.fault, Fault) and broken.fault.as_before and not _alike(row, _row(broken.valid, result)):
        return f"predicted as {row}, but {broken.valid.name} as {_row(broken.valid, result)}"
    return ""


def _row(path: Path, result: Result) -> tuple[str, float] | None:
    return result.rows.get(
        os.fsencode(path).decode(errors="surrogateescape").encode(errors="backslashreplace").decode()
    )


def _alike(one: tuple[str, float] | None, other: tuple[str, float] | None) -> bool:
    """Whether two predictions are the same, up to the last digit, which the size of the batch may change."""
    return one is not None and other is not None and one[0] == other[0] and abs(one[1] - other[1]) <= 2e-6


def _write_valid(folder: Path, seed: int) -> list[Path]:
    images, _ = images_and_labels(20, 10, np.random.default_rng(seed))
    paths = []
    for number, pixels in enumerate(images):
        kind = list(SUFFIXES)[number % len(SUFFIXES)]
        path = folder / f"valid {number:02}{SUFFIXES[kind]}"
        path.write_bytes(encoded(Image.fromarray(pixels), kind))
        paths.append(path)
    return paths


def _break(number: int, valid: list[Path], rng: Random) -> Broken:
    """Write a broken file among the valid ones."""
    once = number < len(ONCE)
    fault = ONCE[number] if once else FAULTS[(number - len(ONCE)) % len(FAULTS)]
    original = rng.choice(valid)
    suffix = rng.choice(list(SUFFIXES.values())) if fault.what == "another suffix" else original.suffix
    path = original.with_name(f"{rng.choice(_NAMES)}{number:05}{suffix}")
    if isinstance(fault, Place):
        fault.make(path)
    else:
        kind = next(kind for kind, of_kind in SUFFIXES.items() if of_kind == original.suffix)
        path.write_bytes(fault.content(rng, original.read_bytes(), kind))
    return Broken(path, fault, original)


def _predict(checkpoint: Path, images: Path, output: Path) -> Result:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with _stderr(output.with_suffix(".txt")) as errors:
        status = main(["predict", str(checkpoint), str(images), "--output", str(output)])
    seconds = time.monotonic() - start
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    with output.open(newline="", encoding="utf-8") as file:
        rows = {row["file"]: (row["predicted"], float(row["confidence"])) for row in csv.DictReader(file)}
    lines = errors.read_text(encoding="utf-8").splitlines()
    errors.unlink()
    return Result(status, lines, rows, growth, seconds)


@contextmanager
def _stderr(path: Path) -> Iterator[Path]:
    """Redirect stderr to a file, also that of libraries in C."""
    sys.stderr.flush()
    before = os.dup(2)
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        os.dup2(file.fileno(), 2)
        try:
            with redirect_stderr(file):
                yield path
        finally:
            os.dup2(before, 2)
            os.close(before)


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of all files below a folder, and of the file that a payload would have created."""
    states = {}
    for path in [*folder.rglob("*"), Path("pwned")]:
        if os.path.lexists(path):
            status = path.lstat()
            states[os.path.relpath(path, folder)] = (status.st_size, status.st_mtime_ns)
    return states
