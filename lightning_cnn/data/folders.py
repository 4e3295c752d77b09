"""Which images a folder of class folders has, with their labels and parts.

What would train a model on something else than the user meant is an error of one line: nothing is guessed.
"""

# ruff: noqa: PTH118  # strings: there may be a million files

import errno
import os
import posixpath
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from lightning_cnn.data.files import announce
from lightning_cnn.data.image_files import SUFFIXES
from lightning_cnn.data.listing import (
    PARTS,
    Listing,
    Row,
    count,
    from_rows,
    require_folder,
    show,
    some,
    stats_of,
)
from lightning_cnn.errors import DataError, reason

#: Files and folders that systems create, besides hidden ones.
_IGNORED = ("thumbs.db", "desktop.ini", "__macosx")


def list_images(root: Path, classes: Sequence[str] | None = None) -> Listing:
    """Return the images in class folders: `root/<class>/…`, or `root/train|val|test/<class>/…`.

    Images may be in subfolders of a class folder. Hidden files and folders are ignored; other files in class folders
    are skipped, with a message. Links are followed. There must be training images; `val` (also `valid` or
    `validation`) and `test` may be missing, and so may some of their classes, with a message.

    Args:
        root: The folder.
        classes: Those of `listing.from_rows`; then there need not be training images.

    Raises:
        UserError: If `root` is not a folder that can be read.
        DataError: If it is not clear which images it has, of which class.
    """
    require_folder(root)
    walk = _Walk(root)
    top = walk.entries(_Folder("", os.path.realpath(root)))
    rows: list[Row] = []
    for part, folder in _parts(walk, top, trains=classes is None):
        inside = top if not folder.path else walk.entries(folder)
        images = [entry.name for entry in inside.files if _is_image(entry.name)]
        if images and inside.folders:
            raise DataError(
                f"{show(root, folder.path)} has {count(images, 'image')} beside its class folders: {some(images)}; "
                "move each into the folder of its class"
            )
        if not inside.folders:
            raise DataError(
                f"{show(root, folder.path)} has no class folders; put the images of each class into a folder of its "
                f"own, {show(root, folder.path)}/<class>/"
            )
        needed = part in ("", "train")
        if needed and len(inside.folders) == 1 and (nested := walk.entries(inside.folders[0]).folders):
            raise DataError(
                f"{show(root, folder.path)} has one class folder, with {count(nested, 'folder')} in it; if these are "
                f"the classes, use {show(root, inside.folders[0].path)}"
            )
        for class_folder in inside.folders:
            folder_name = unicodedata.normalize("NFC", posixpath.basename(class_folder.path))
            name = folder_name.strip() or folder_name  # as in a CSV file
            before = len(rows)
            rows += walk.images(class_folder, part, name)
            if needed and classes is None and len(rows) == before:
                walk.empty.append(class_folder.path)
            walk.names[part][name].append(class_folder.path)
    walk.report()
    return from_rows(root, rows, classes=classes)


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
                f"{show(self.root, folder.path)} cannot be read ({reason(error)}); change its permissions or move it "
                f"out of {show(self.root)}"
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
        raise DataError(f"{show(self.root, path)} is a link that leads round in a circle; remove it")

    def images(self, top: _Folder, part: str, label: str) -> Iterator[Row]:
        """Yield the images below a class folder, each folder once."""
        folders = [top]
        while folders:
            folder = folders.pop()
            other = self.seen.setdefault(folder.real, folder.path)
            if folder.path != other:
                if f"{other}/".startswith(f"{top.path}/"):
                    continue
                raise DataError(
                    f"{show(self.root, folder.path)} is a link to a folder of {show(self.root, other)}: its images "
                    "would be used twice; remove it"
                )
            inside = self.entries(folder)
            folders += reversed(inside.folders)
            for entry in inside.files:
                file = f"{folder.path}/{entry.name}"
                if _is_image(entry.name):
                    yield (file, part, label, *stats_of(entry))
                else:
                    self.skipped.append(file)

    def report(self) -> None:
        """Tell which files were skipped, and refuse class folders that are empty or have twins."""
        if self.skipped:
            skipped = sorted(self.skipped)
            announce(f"skipped {count(skipped, 'file')} not named as an image: {some(skipped)}")
        for names in self.names.values():
            for twins in names.values():
                if len(twins) > 1:
                    raise DataError(
                        f"{show(self.root)}: the names {' and '.join(map(ascii, twins))} differ only in how accents "
                        "are stored (Unicode's normal forms), or in spaces; move the images into one of these folders"
                    )
        if self.empty:
            raise DataError(
                f"{count(self.empty, 'class folder')} without images in {show(self.root)}: {some(self.empty)}; add "
                f"images ({', '.join(SUFFIXES)}) or remove the folders"
            )


def _parts(walk: _Walk, top: _Entries, trains: bool) -> list[tuple[str, _Folder]]:
    """Return the parts and their folders; of a root without parts, an empty text and the root itself."""
    root = show(walk.root)
    by_part = defaultdict(list)
    for folder in top.folders:
        by_part[PARTS.get(folder.path.casefold(), "")].append(folder)
    others = by_part.pop("", [])
    for folder in (folder for folders in by_part.values() for folder in folders if others):
        # `train` may be a class, of vehicles for example: then it has images itself.
        if not any(_is_image(entry.name) for entry in walk.entries(folder).files):
            raise DataError(
                f"{root} has {some(other.path for other in others)} beside {folder.path}; it must have either class "
                "folders, or only train, val and test with class folders in them"
            )
    if others or not by_part:
        return [("", _Folder("", os.path.realpath(walk.root)))]
    if trains and "train" not in by_part:
        found = [folder.path for folders in by_part.values() for folder in folders]
        raise DataError(f"{root} has {some(found)} but no train; training images must be in {root}/train/<class>/")
    for part, folders in by_part.items():
        if len(folders) > 1:
            names = [folder.path for folder in folders]
            raise DataError(f"{root} has {' and '.join(names)}, both for {part}; join or remove them")
    return [(part, by_part[part][0]) for part in ("train", "val", "test") if part in by_part]


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)
