"""The images of a dataset of files: their labels and parts, before any is opened. `folders` and `tables` find them."""

# ruff: noqa: PTH116, PTH118  # strings: there may be a million files

import os
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_cnn.data.files import announce
from lightning_cnn.errors import DataError, UserError, reason
from lightning_cnn.text import printable

#: The parts of a split, by the names that folders and the column `split` may have, in any case.
PARTS = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "val", "valid": "val", "validation": "val"},
}
#: How many names a message has.
_NAMED = 3


@dataclass(frozen=True)
class Listing:
    """The images of a dataset, sorted by file.

    Args:
        root: The folder that the files are in.
        class_names: The classes, sorted, in the order of the labels; in Unicode's normal form C, and printable.
        files: Paths relative to `root`, with slashes.
        labels: Class of each file, `(N,)`.
        parts: `train`, `val` or `test` for each file; an empty text for all of them if there are no parts.
        stats: Size in bytes and times of modification and of change in nanoseconds, `(N, 3)`; -1 for a link to nowhere.
    """

    root: Path
    class_names: tuple[str, ...]
    files: list[str]
    labels: NDArray[np.int64]
    parts: list[str]
    stats: NDArray[np.int64]


#: File, part, label, and the three numbers of `Listing.stats`. A plain tuple: there may be a million.
Row = tuple[str, str, str, int, int, int]


def from_rows(root: Path, rows: list[Row], source: str = "", classes: Sequence[str] | None = None) -> Listing:
    """Return the listing of these rows, if their classes are in order.

    Args:
        root: The folder of the files.
        rows: The rows, in any order.
        source: The CSV file, if that lists them; otherwise `root` does.
        classes: The classes of a model to evaluate on these images, in the order of the labels; none of them must have
            training images then. None for those of the rows.
    """
    source = source or show(root)
    names = sorted({label for _, _, label, *_ in rows})
    twins = defaultdict(list)
    for name in names:
        twins[unicodedata.normalize("NFC", printable(name).casefold())].append(name)
    for same in twins.values():
        if len(same) > 1:
            rule = "are shown alike" if len({*map(printable, same)}) == 1 else "differ only in case"
            raise DataError(f"{source}: the classes {' and '.join(map(repr, same))} {rule}; give both one name")
    if classes is not None:
        return _sorted(root, rows, _known(names, classes, source), classes)
    by_part = defaultdict(set)
    for _, part, label, *_ in rows:
        by_part[part].add(label)
    if not rows or not (trained := by_part.get("train") or by_part.get("")):
        raise DataError(f"{source} has no training images; there must be some of each class")
    for part, present in by_part.items():
        if only := sorted(present - trained):
            raise DataError(
                f"{source}: {count(only, 'class', 'classes')} in {part} without training images: {some(only)}; "
                "add some, or remove these images"
            )
    if len(names) < 2:
        raise DataError(f"{source} has one class, {some(names)}; there must be at least two to tell apart")
    for part, present in by_part.items():
        if absent := sorted(trained - present):
            announce(f"{source}: no {part} images of {count(absent, 'class', 'classes')}: {some(absent)}")
    return _sorted(root, rows, {name: label for label, name in enumerate(names)}, [*map(printable, names)])


def _known(names: list[str], classes: Sequence[str], source: str) -> dict[str, int]:
    """Return the label of each of these names, among the classes of a model."""
    if not names:
        raise DataError(f"{source} has no images; there must be some to evaluate the model on")
    unknown = [name for name in names if printable(name) not in classes]
    if unknown:
        raise DataError(
            f"{source} has {count(unknown, 'class', 'classes')} that the model does not have: {some(unknown)}; name "
            f"them as in its training ({some(classes)}), or remove them"
        )
    if absent := [name for name in classes if name not in map(printable, names)]:
        announce(f"{source}: no images of {count(absent, 'class', 'classes')}: {some(absent)}")
    return {name: classes.index(printable(name)) for name in names}


def _sorted(root: Path, rows: list[Row], label_of: dict[str, int], class_names: Sequence[str]) -> Listing:
    rows.sort()
    files, parts, labels, *stats = zip(*rows, strict=True)
    return Listing(
        root=root,
        class_names=tuple(class_names),
        files=[*files],
        labels=np.array([label_of[label] for label in labels], np.int64),
        parts=[*parts],
        stats=np.array(stats, np.int64).T,
    )


def require_folder(root: Path) -> None:
    """Raise `UserError` if the root is not a folder that can be read."""
    try:
        os.scandir(root).close()
    except FileNotFoundError as error:
        raise UserError(f"--data.root {show(root)} does not exist; name a folder of class folders") from error
    except NotADirectoryError as error:
        raise UserError(f"--data.root {show(root)} is not a folder; name a folder of class folders") from error
    except (OSError, ValueError) as error:
        raise UserError(f"--data.root {show(root)} cannot be read ({reason(error)}); name one that can") from error


def stats_of(file: "os.DirEntry[str] | str") -> tuple[int, int, int]:
    """Return the numbers of `Listing.stats` for a file."""
    try:
        status = os.stat(file) if isinstance(file, str) else file.stat()
    except OSError:  # `decoding` says why, if the file is used
        return (-1, -1, -1)
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def show(root: Path, path: str = "") -> str:
    """Return the root, or a path in it, as messages name it."""
    return printable(os.path.join(root, path) if path else str(root))


def count(things: Collection[object], one: str, many: str = "") -> str:
    """Return how many things there are, with the noun."""
    return f"1 {one}" if len(things) == 1 else f"{len(things):,} {many or one + 's'}"


def some(names: Iterable[str]) -> str:
    """Return up to three names, and how many more there are."""
    names = [*names]
    more = len(names) - _NAMED
    return ", ".join(map(printable, names[:_NAMED])) + (f" and {more:,} more" if more > 0 else "")
