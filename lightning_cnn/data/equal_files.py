"""Files of a folder that have the same content: a split keeps them together, and the user is told of the others."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lightning_cnn.data.base import Part
from lightning_cnn.data.files import announce
from lightning_cnn.data.listing import Listing, count, some
from lightning_cnn.errors import UserError
from lightning_cnn.text import printable

#: What happens if two parts have the same file.
Duplicates = Literal["refuse", "keep", "group"]
#: Returns those of some digests whose files a model was trained or validated on; None if that is not known.
FindUsed = Callable[[Collection[str]], Collection[str] | None]


@dataclass(frozen=True)
class EqualFiles:
    """Which files of a listing have the same content.

    Args:
        listing: The files.
        digests: The digest of each file, `(N,)`: equal for equal files.
        duplicates: What is done about them, see `ImageFolderDataModule`.
    """

    listing: Listing
    digests: NDArray[np.bytes_]
    duplicates: Duplicates

    def divide(
        self, files: NDArray[np.intp], split: Callable[[NDArray[np.integer]], Any]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Divide files in two; equal ones stay together unless `duplicates` is `keep`.

        Args:
            files: Indices of files.
            split: Returns the indices of both parts for the labels of some images.
        """
        first, group = np.arange(len(files)), np.arange(len(files))
        if self.duplicates != "keep":
            _, first, group = np.unique(self.digests[files], return_index=True, return_inverse=True)
            order = np.argsort(first)  # in the order of the files, whatever their content
            first, group = first[order], np.argsort(order)[group]
        chosen = np.isin(group, split(self.listing.labels[files[first]])[1])
        return files[~chosen], files[chosen]

    def report(self, parts: Mapping[Part, NDArray[np.intp]]) -> None:
        """Tell of files that are in two classes or two parts.

        Raises:
            UserError: If two parts have the same file and `duplicates` is `refuse`.
        """
        if self.duplicates == "keep":
            return
        digests, labels = self.digests, self.listing.labels
        files = np.concatenate([*parts.values()])
        files = files[np.argsort(digests[files], kind="stable")]
        same = np.flatnonzero((digests[files[:-1]] == digests[files[1:]]) & (labels[files[:-1]] != labels[files[1:]]))
        if len(same):
            announce(f"WARNING: {self._also('', 'another class', files[same], files[same + 1])}")
        for one, other in combinations(parts, 2):
            same, a, b = np.intersect1d(digests[parts[one]], digests[parts[other]], return_indices=True)
            if len(same):
                self._warn_or_refuse(self._also(f" of {other}", one, parts[one][a], parts[other][b]))

    def report_used(self, files: NDArray[np.intp], find_used: FindUsed, source: str) -> None:
        """Tell of files to evaluate that the model was trained or validated on: their metrics are too good.

        Args:
            files: Indices of the files to evaluate.
            find_used: Knows the files of the training.
            source: Where the files are, for the message.

        Raises:
            UserError: If there are any, or it is not known, and `duplicates` is `refuse`.
        """
        if self.duplicates == "keep":
            return
        digests = {i: self.digests[i].decode() for i in files.tolist()}
        if (known := find_used({*digests.values()})) is None:
            self._warn_or_refuse(
                f"whether files of {source} are also among those of the training is not known: the run's split.csv is "
                "not beside the model",
                "give the run in its place",
            )
        elif used := [self.listing.files[i] for i, digest in digests.items() if digest in known]:
            are = "is" if len(used) == 1 else "are"
            self._warn_or_refuse(
                f"{count(used, 'file')} of {source} {are} also among those of the training: {some(used)}"
            )

    def _warn_or_refuse(self, found: str, way_out: str = "remove them") -> None:
        if self.duplicates == "refuse":
            raise UserError(f"{found}; {way_out}, or set --data.duplicates keep")
        announce(f"WARNING: {found}")

    def _also(self, of: str, where: str, files: NDArray[np.intp], others: NDArray[np.intp]) -> str:
        example = " and ".join(printable(self.listing.files[i]) for i in (files[0], others[0]))
        are = "is" if len(files) == 1 else "are"
        return f"{count(files, 'file')}{of} {are} also in {where}, for example {example}"
