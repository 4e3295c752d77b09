"""Which images a folder of class folders has, or a CSV file of them: their labels and parts, before any is opened.

What would train a model on something else than the user meant is an error of one line: nothing is guessed.
"""

# ruff: noqa: PTH116, PTH118  # strings: there may be a million files

import csv
import errno
import os
import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from lightning_cnn.data.files import announce
from lightning_cnn.data.image_files import SUFFIXES
from lightning_cnn.errors import DataError, UserError, did_you_mean, reason
from lightning_cnn.text import printable

#: The parts of a split, by the names that folders and the column `split` may have, in any case.
_PARTS = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "val", "valid": "val", "validation": "val"},
}
#: Files and folders that systems create, besides hidden ones.
_IGNORED = ("thumbs.db", "desktop.ini", "__macosx")
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
_Row = tuple[str, str, str, int, int, int]


def list_images(root: Path) -> Listing:
    """Return the images in class folders: `root/<class>/…`, or `root/train|val|test/<class>/…`.

    Images may be in subfolders of a class folder. Hidden files and folders are ignored; other files in class folders
    are skipped, with a message. Links are followed. There must be training images; `val` (also `valid` or
    `validation`) and `test` may be missing, and so may some of their classes, with a message.

    Args:
        root: The folder.

    Raises:
        UserError: If `root` is not a folder that can be read.
        DataError: If it is not clear which images it has, of which class.
    """
    _require_folder(root)
    walk = _Walk(root)
    top = walk.entries(_Folder("", os.path.realpath(root)))
    rows: list[_Row] = []
    for part, folder in _parts(walk, top):
        inside = top if not folder.path else walk.entries(folder)
        images = [entry.name for entry in inside.files if _is_image(entry.name)]
        if images and inside.folders:
            raise DataError(
                f"{_show(root, folder.path)} has {_count(images, 'image')} beside its class folders: {_some(images)}; "
                "move each into the folder of its class"
            )
        if not inside.folders:
            raise DataError(
                f"{_show(root, folder.path)} has no class folders; put the images of each class into a folder of its "
                f"own, {_show(root, folder.path)}/<class>/"
            )
        for class_folder in inside.folders:
            name = unicodedata.normalize("NFC", posixpath.basename(class_folder.path))
            before = len(rows)
            rows += walk.images(class_folder, part, name)
            if len(rows) == before and part in ("", "train"):
                walk.empty.append(class_folder.path)
            walk.names[part][name].append(class_folder.path)
    walk.report()
    return _listing(root, rows)


def read_csv(root: Path, path: Path) -> Listing:
    """Return the images in a CSV file with the columns `file` and `label`, and optionally `split`.

    The file is UTF-8, with commas. A file of an image is relative to `root`; a split is `train`, `val` or `test`, and
    there must be some `train`. Other columns are ignored.

    Args:
        root: The folder that the files are in.
        path: The CSV file.

    Raises:
        UserError: If one of them does not exist or cannot be read.
        DataError: If the content of the CSV file is not as described.
    """
    _require_folder(root)
    listed: dict[str, tuple[str, str]] = {}
    outside: list[str] = []
    clashes: list[str] = []
    repeated = 0
    base = os.path.realpath(root)
    for line, (name, label, part) in _csv_rows(path):
        file = _below(root, base, name)
        if file is None:
            outside.append(name)
        elif not label:
            raise DataError(f"{path}, line {line}: the label is empty; give each file one, or leave the line out")
        elif listed.setdefault(file, (label, part)) != (label, part):
            clashes.append(file)
        else:
            repeated += 1
    if outside:
        raise DataError(
            f"{path} lists {_count(outside, 'file')} outside of {root}: {_some(outside)}; "
            "files must be in --data.root, links may lead out of it"
        )
    if clashes:
        raise DataError(
            f"{path} lists {_count(clashes, 'file')} again with another label or split: {_some(clashes)}; "
            "keep one line for each file"
        )
    if repeated := repeated - len(listed):
        announce(f"{path} repeats {repeated:,} lines; each file is used once")
    rows = [(file, part, label, *_stat(os.path.join(root, file))) for file, (label, part) in listed.items()]
    missing = [row[0] for row in rows if row[3] < 0]
    if missing:
        raise DataError(
            f"{path} lists {_count(missing, 'file')} that {root} does not have: {_some(missing)}; "
            "names are relative to --data.root"
        )
    return _listing(root, rows, str(path))


def _csv_rows(path: Path) -> Iterator[tuple[int, tuple[str, str, str]]]:
    """Yield line number, file, label and part of each row."""
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            columns = [name.strip().casefold() for name in next(reader, [])]
            absent = [name for name in ("file", "label") if name not in columns]
            if absent:
                raise DataError(
                    f"{path} has no column {' and no column '.join(absent)}; its first line must be file,label or "
                    f"file,label,split, it has {_some(columns)}"
                )
            twice = [name for name in ("file", "label", "split") if columns.count(name) > 1]
            if twice:
                raise DataError(f"{path} has two columns {twice[0]}; remove or rename one of them")
            where = [columns.index(name) if name in columns else None for name in ("file", "label", "split")]
            for row in reader:
                line = reader.line_num
                if not row:
                    continue
                if len(row) != len(columns):
                    raise DataError(
                        f"{path}, line {line}: {len(row)} values for {len(columns)} columns; "
                        "put values that have commas into double quotes"
                    )
                name, label, split = ("" if column is None else row[column].strip() for column in where)
                part = "" if where[2] is None else _PARTS.get(split.casefold(), "")
                if where[2] is not None and not part:
                    raise DataError(
                        f"{path}, line {line}: the split is {printable(split)!r}; it must be train, val or test"
                        f"{did_you_mean(split, _PARTS)}"
                    )
                if not name:
                    raise DataError(f"{path}, line {line}: the file is empty; name one, or leave the line out")
                yield line, (name, unicodedata.normalize("NFC", label), part)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8, after line {line}; save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path}, line {line + 1}: not valid CSV ({error}); save it again") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({reason(error)}); name a CSV file that can") from error


def _below(root: Path, base: str, name: str) -> str | None:
    """Return the path of a listed file relative to the root; None if it is not below it."""
    if posixpath.isabs(name):
        for start in (str(root.absolute()), base):
            if name.startswith(start + "/"):
                name = name[len(start) + 1 :]
                break
        else:
            return None
    file = posixpath.normpath(name)
    return None if file.split("/", 1)[0] in ("..", ".") or "\0" in file else file


def _require_folder(root: Path) -> None:
    try:
        os.scandir(root).close()
    except FileNotFoundError as error:
        raise UserError(f"--data.root {_show(root)} does not exist; name a folder of class folders") from error
    except NotADirectoryError as error:
        raise UserError(f"--data.root {_show(root)} is not a folder; name a folder of class folders") from error
    except (OSError, ValueError) as error:
        raise UserError(f"--data.root {_show(root)} cannot be read ({reason(error)}); name one that can") from error


class _Folder(NamedTuple):
    """A folder: its path relative to the root, and its real path, without links."""

    path: str
    real: str


class _Entries(NamedTuple):
    folders: list[_Folder]
    files: list["os.DirEntry[str]"]


class _Walk:
    """Walks through class folders, and collects what is wrong with them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seen: dict[str, str] = {}
        self.skipped: list[str] = []
        self.empty: list[str] = []
        self.names: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))

    def entries(self, folder: _Folder) -> _Entries:
        """Return the visible folders, sorted, and files in a folder."""
        folders: list[_Folder] = []
        files: list[os.DirEntry[str]] = []
        try:
            with os.scandir(os.path.join(self.root, folder.path)) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name.casefold() in _IGNORED:
                        continue
                    if self._is_folder(entry, folder):
                        path = f"{folder.path}/{entry.name}" if folder.path else entry.name
                        real = os.path.realpath(entry.path) if entry.is_symlink() else f"{folder.real}/{entry.name}"
                        folders.append(_Folder(path, real))
                        if f"{folder.real}/".startswith(real.rstrip("/") + "/"):
                            self._refuse_circle(path)
                    else:
                        files.append(entry)
        except OSError as error:
            raise DataError(
                f"{_show(self.root, folder.path)} cannot be read ({reason(error)}); change its permissions or move it "
                f"out of {_show(self.root)}"
            ) from error
        return _Entries(sorted(folders), files)

    def _is_folder(self, entry: "os.DirEntry[str]", folder: _Folder) -> bool:
        try:
            return entry.is_dir()
        except OSError as error:
            if error.errno == errno.ELOOP:
                self._refuse_circle(f"{folder.path}/{entry.name}")
            return False  # a link to a place that cannot be read: reported as a file that cannot

    def _refuse_circle(self, path: str) -> NoReturn:
        raise DataError(f"{_show(self.root, path)} is a link that leads round in a circle; remove it")

    def images(self, top: _Folder, part: str, label: str) -> Iterator[_Row]:
        """Yield the images below a class folder, each folder once."""
        folders = [top]
        while folders:
            folder = folders.pop()
            other = self.seen.setdefault(folder.real, folder.path)
            if folder.path != other:
                if f"{other}/".startswith(f"{top.path}/"):
                    continue
                raise DataError(
                    f"{_show(self.root, folder.path)} is a link to a folder of {_show(self.root, other)}: its images "
                    "would be used twice; remove it"
                )
            inside = self.entries(folder)
            folders += reversed(inside.folders)
            for entry in inside.files:
                file = f"{folder.path}/{entry.name}"
                if _is_image(entry.name):
                    yield (file, part, label, *_stat(entry))
                else:
                    self.skipped.append(file)

    def report(self) -> None:
        """Tell which files were skipped, and refuse class folders that are empty or have twins."""
        if self.skipped:
            skipped = sorted(self.skipped)
            announce(f"skipped {_count(skipped, 'file')} not named as an image: {_some(skipped)}")
        for names in self.names.values():
            for twins in names.values():
                if len(twins) > 1:
                    raise DataError(
                        f"the names of {' and '.join(_quoted(twins))} in {_show(self.root)} differ only in how accents "
                        "are stored (Unicode's normal forms); move the images into one of them"
                    )
        if self.empty:
            raise DataError(
                f"{_count(self.empty, 'class folder')} without images in {_show(self.root)}: {_some(self.empty)}; add "
                f"images ({', '.join(SUFFIXES)}) or remove the folders"
            )


def _parts(walk: _Walk, top: _Entries) -> list[tuple[str, _Folder]]:
    """Return the parts and their folders; of a root without parts, an empty text and the root itself."""
    root = _show(walk.root)
    by_part = defaultdict(list)
    for folder in top.folders:
        by_part[_PARTS.get(folder.path.casefold(), "")].append(folder)
    others = by_part.pop("", [])
    if others and by_part.get("train"):
        # `train` may be a class, of vehicles for example: then it has images itself.
        if any(_is_image(entry.name) for entry in walk.entries(by_part["train"][0]).files):
            by_part.clear()
        else:
            names = [folder.path for folder in others]
            raise DataError(
                f"{root} has {_some(names)} beside {by_part['train'][0].path}; it must have either class folders, or "
                "only train, val and test with class folders in them"
            )
    if others or not by_part:
        return [("", _Folder("", os.path.realpath(walk.root)))]
    if "train" not in by_part:
        found = [folder.path for folders in by_part.values() for folder in folders]
        raise DataError(f"{root} has {_some(found)} but no train; training images must be in {root}/train/<class>/")
    for part, folders in by_part.items():
        if len(folders) > 1:
            names = [folder.path for folder in folders]
            raise DataError(f"{root} has {' and '.join(_quoted(names))}, both for {part}; join or remove them")
    return [(part, folders[0]) for part, folders in by_part.items()]


def _listing(root: Path, rows: list[_Row], source: str = "") -> Listing:
    """Return the listing of these rows, if their classes are in order.

    Args:
        root: The folder of the files.
        rows: The rows, in any order.
        source: The CSV file, if that lists them; otherwise `root` does.
    """
    source = source or _show(root)
    names = sorted({label for _, _, label, *_ in rows})
    twins = defaultdict(list)
    for name in names:
        twins[unicodedata.normalize("NFC", name.casefold())].append(name)
    for same in twins.values():
        if len(same) > 1:
            raise DataError(
                f"{source}: the classes {' and '.join(_quoted(same))} differ only in case; give both one name"
            )
    by_part = defaultdict(set)
    for _, part, label, *_ in rows:
        by_part[part].add(label)
    if not rows or not (trained := by_part.get("train") or by_part.get("")):
        raise DataError(f"{source} has no training images; there must be some of each class")
    for part, present in by_part.items():
        if only := sorted(present - trained):
            raise DataError(
                f"{source}: {_count(only, 'class', 'classes')} in {part} without training images: {_some(only)}; "
                "add some, or remove these images"
            )
    if len(names) < 2:
        raise DataError(f"{source} has one class, {_some(names)}; there must be at least two to tell apart")
    for part, present in by_part.items():
        if absent := sorted(trained - present):
            announce(f"{source}: no {part} images of {_count(absent, 'class', 'classes')}: {_some(absent)}")
    rows.sort()
    label_of = {name: number for number, name in enumerate(names)}
    files, parts, labels, *stats = zip(*rows, strict=True)
    return Listing(
        root=root,
        class_names=tuple(map(printable, names)),
        files=[*files],
        labels=np.array([label_of[label] for label in labels], np.int64),
        parts=[*parts],
        stats=np.array(stats, np.int64).T,
    )


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _stat(file: "os.DirEntry[str] | str") -> tuple[int, int, int]:
    try:
        status = os.stat(file) if isinstance(file, str) else file.stat()
    except OSError:  # `decoding` says why, if the file is used
        return (-1, -1, -1)
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _show(root: Path, path: str = "") -> str:
    return printable(os.path.join(root, path) if path else str(root))


def _quoted(names: Iterable[str]) -> list[str]:
    """Return names in quotes; characters that look the same, but are not, by their escapes."""
    return [ascii(name) if len({unicodedata.normalize("NFC", n) for n in names}) == 1 else repr(name) for name in names]


def _count(things: Collection[object], one: str, many: str = "") -> str:
    return f"1 {one}" if len(things) == 1 else f"{len(things):,} {many or one + 's'}"


def _some(names: Iterable[str]) -> str:
    """Return up to three names, and how many more there are."""
    names = [*names]
    more = len(names) - _NAMED
    return ", ".join(map(printable, names[:_NAMED])) + (f" and {more:,} more" if more > 0 else "")
