"""Which images a CSV file lists, with their labels and parts."""

# ruff: noqa: PTH118  # strings: there may be a million files

import csv
import os
import posixpath
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from lightning_cnn.data.files import announce
from lightning_cnn.data.listing import PARTS, Listing, count, from_rows, require_folder, some, stats_of
from lightning_cnn.errors import DataError, UserError, did_you_mean, reason
from lightning_cnn.files import limited_lines
from lightning_cnn.text import printable, text_from_spreadsheet


def read_csv(root: Path, path: Path, classes: Sequence[str] | None = None) -> Listing:
    """Return the images in a CSV file with the columns `file` and `label`, and optionally `split`.

    The file is UTF-8, with commas. A file of an image is relative to `root`; a split is `train`, `val` or `test`, and
    there must be some `train`. Other columns are ignored.

    Args:
        root: The folder that the files are in.
        path: The CSV file.
        classes: Those of `listing.from_rows`.

    Raises:
        UserError: If one of them does not exist or cannot be read.
        DataError: If the content of the CSV file is not as described.
    """
    require_folder(root)
    listed: dict[str, tuple[str, str]] = {}
    outside: list[str] = []
    clashes: list[str] = []
    repeated = 0
    base = os.path.realpath(root)
    for line, (given, label, part) in _csv_rows(path):
        # Spaces around the values of a CSV file are none of a name, unless there is such a file.
        name = given if given != given.strip() and os.path.lexists(os.path.join(root, given)) else given.strip()
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
            f"{path} lists {count(outside, 'file')} outside of {root}: {some(outside)}; "
            "files must be in --data.root, links may lead out of it"
        )
    if clashes:
        raise DataError(
            f"{path} lists {count(clashes, 'file')} again with another label or split: {some(clashes)}; "
            "keep one line for each file"
        )
    if repeated := repeated - len(listed):
        announce(f"{path} repeats {repeated:,} lines; each file is used once")
    rows = [(file, part, label, *stats_of(os.path.join(root, file))) for file, (label, part) in listed.items()]
    missing = [row[0] for row in rows if row[3] < 0]
    if missing:
        raise DataError(
            f"{path} lists {count(missing, 'file')} that {root} does not have: {some(missing)}; "
            "names are relative to --data.root"
        )
    return from_rows(root, rows, str(path), classes)


def _csv_rows(path: Path) -> Iterator[tuple[int, tuple[str, str, str]]]:
    """Yield line number, file, label and part of each row."""
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(limited_lines(file))
            columns = [name.strip().casefold() for name in next(reader, [])]
            absent = [name for name in ("file", "label") if name not in columns]
            if absent:
                raise DataError(
                    f"{path} has no column {' and no column '.join(absent)}; its first line must be file,label or "
                    f"file,label,split, it has {some(columns) or 'nothing'}"
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
                name, label, split = ("" if column is None else row[column] for column in where)
                label, split = label.strip(), split.strip()
                part = "" if where[2] is None else PARTS.get(split.casefold(), "")
                if where[2] is not None and not part:
                    raise DataError(
                        f"{path}, line {line}: the split is {printable(split)!r}; it must be train, val or test"
                        f"{did_you_mean(split, PARTS)}"
                    )
                if not name.strip():
                    raise DataError(f"{path}, line {line}: the file is empty; name one, or leave the line out")
                yield line, (name, unicodedata.normalize("NFC", text_from_spreadsheet(label)), part)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8, after line {line}; save it as CSV in UTF-8") from error
    except (csv.Error, ValueError) as error:  # ValueError: a line without end
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
