"""`ImageFolderDataModule`: a folder of class folders as a dataset, split so that no image is in two parts."""

import re
import zlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray

from lightning_cnn.data import cache, folders, tables
from lightning_cnn.data.base import ImageDataModule, Part
from lightning_cnn.data.batches import Images
from lightning_cnn.data.equal_files import Duplicates, EqualFiles, FindUsed
from lightning_cnn.data.files import announce
from lightning_cnn.data.listing import Listing, count, some
from lightning_cnn.data.resize import MAX_SIDE, Mode, Resize
from lightning_cnn.data.splits import number_of, require_share, stratified_split
from lightning_cnn.errors import UserError
from lightning_cnn.text import printable

_CHANNELS: dict[str, cache.Channels] = {"auto": "auto", "grey": 1, "rgb": 3}
_PARTS: tuple[Part, ...] = get_args(Part)


class ImageFolderDataModule(ImageDataModule):
    """A folder of class folders, or a CSV file with a label for each file.

    The images are decoded once, in parallel, and then mapped from a cache, so that an epoch is as fast as from tensors.
    The layout is `root/train|val|test/<class>/…`, or `root/<class>/…`. A part that has no folder is taken from the
    training images: stratified, the same in every run, and named file by file in `split.csv` of the run folder.

    Args:
        root: The folder. PNG, JPEG, BMP, GIF, WebP, TIFF, AVIF and (with the extra `pictures`) HEIC files are read.
        image_size: Side of the images in pixels, 1 to 4096, or `[height, width]`.
        resize: How images of another shape are made to fit: `crop` takes the largest centred part, `pad` the whole
            image on black, `stretch` the whole image, distorted.
        channels: `grey`, `rgb`, or `auto`, which is `rgb` if any image has colour.
        labels: A CSV file with the columns `file` (relative to `root`) and `label`, and perhaps `split` (`train`,
            `val` or `test`), in place of class folders.
        val_size: Validation images, if they have no folder: their number (int), or their share (float).
        test_size: Test images, if they have no folder, likewise; they are taken first. 0 for none.
        on_error: Whether files that cannot be decoded end the run (`fail`) or are left out (`skip`).
        duplicates: What to do about equal files: `group` takes them for the same part, as far as that is not given by
            a folder; `refuse` ends the run if two parts have one; `keep` ignores them.
        kwargs: Arguments of `ImageDataModule`.

    Raises:
        ValueError: If an argument is out of range.
        UserError: If the files or their names break a rule of the layout; the message names them.

    Example:
        >>> from PIL import Image
        >>> for name, colour in (("cat", "red"), ("dog", "blue")):
        ...     Path("photos", name).mkdir(parents=True)
        ...     for number in range(10):
        ...         Image.new("RGB", (40 + number, 30), colour).save(f"photos/{name}/{number}.png")
        >>> datamodule = ImageFolderDataModule("photos", image_size=24, duplicates="keep")
        >>> datamodule.class_names, datamodule.image_shape
        (('cat', 'dog'), (3, 24, 24))
        >>> datamodule.setup("fit")
        >>> images, targets = next(iter(datamodule.train_dataloader()))
        >>> images.shape, images.dtype, targets.dtype
        (torch.Size([16, 3, 24, 24]), torch.uint8, torch.int64)
    """

    is_mapped: ClassVar[bool] = True

    def __init__(
        self,
        root: str | Path,
        image_size: int | tuple[int, int] = 64,
        resize: Mode = "crop",
        channels: Literal["auto", "grey", "rgb"] = "auto",
        labels: str | Path | None = None,
        val_size: int | float = 0.1,
        test_size: int | float = 0.1,
        on_error: cache.OnError = "fail",
        duplicates: Duplicates = "group",
        **kwargs: Any,
    ) -> None:
        choices = {
            "resize": (resize, get_args(Mode)),
            "channels": (channels, [*_CHANNELS]),
            "on_error": (on_error, get_args(cache.OnError)),
            "duplicates": (duplicates, get_args(Duplicates)),
        }
        for name, (value, known) in choices.items():
            if value not in known:
                raise ValueError(f"{name} must be {' or '.join(known)}, got {value!r}")
        if test_size:
            require_share("test_size", test_size)
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if len(size) != 2 or not 1 <= min(size) <= max(size) <= MAX_SIDE:
            raise ValueError(
                f"image_size must be a side, or a height and a width, from 1 to {MAX_SIDE}, got {image_size}"
            )
        super().__init__(val_size=val_size, **kwargs)
        self.hparams.update({"root": str(root), "labels": None if labels is None else str(labels)})
        self.root = Path(root).expanduser()
        self.labels = None if labels is None else Path(labels).expanduser()
        self.size = size
        self.resize = resize
        self.channels = channels
        self.test_size = test_size
        self.on_error = on_error
        self.duplicates = duplicates
        self.title = printable(self.root.resolve().name or str(self.root))
        self.name = re.sub(r"\W+", "_", self.title.lower()).strip("_") or "images"
        self._classes: Sequence[str] | None = None  # of a model that was trained on another folder
        self._evaluated: Part | None = None  # the only part that such a folder has
        self._find_used: FindUsed  # set with it

    @cached_property
    def listing(self) -> Listing:
        """The files, with their labels and parts."""
        if self.labels is None:
            return folders.list_images(self.root, self._classes)
        return tables.read_csv(self.root, self.labels, self._classes)

    @cached_property
    def decoded(self) -> cache.Decoded:
        """The pixels of all files."""
        return cache.decoded(self.listing, self.size, self.resize, _CHANNELS[self.channels], self.on_error)

    @cached_property
    def equal_files(self) -> EqualFiles:
        """Which files have the same content."""
        return EqualFiles(self.listing, self.decoded.digests, self.duplicates)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        return self.listing.class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image; `auto` channels are known when all images are decoded."""
        channels = _CHANNELS[self.channels]
        return self.decoded.resize.channels if channels == "auto" else channels, *self.size

    @property
    def framing(self) -> Resize:
        """How the images were made one size."""
        return Resize(self.size, self.resize, self.in_channels)

    @property
    def record(self) -> dict[str, Any]:
        """What a run records about its images."""
        numbers = {part: len(files) for part, files in self.parts.items()}
        return {"dataset": self.title, "origin": str(self.root), "sample": False, "images": numbers}

    def prepare_data(self) -> None:
        """Decode all files that have not been decoded yet, once per node."""
        _ = self.decoded

    def load_images(self, parts: Sequence[Part]) -> dict[Part, Images]:
        """Return the images of these parts, mapped from the cache.

        Raises:
            UserError: If a part has no images.
        """
        if self._evaluated is not None:
            parts = [self._evaluated]  # `validate` asks for training images, too
        for part in parts:
            if not len(self.parts[part]):
                raise UserError(f"{self.title} has no {part} images; add some, or set --data.{part}_size")
        if "train" in parts:
            numbers = ", ".join(f"{len(files):,} {part}" for part, files in self.parts.items())
            channels, height, width = self.image_shape
            colour = "grey" if channels == 1 else "RGB"
            rank_zero_info(f"Images of {self.title}: {numbers}; {self.num_classes} classes; {colour}, {height}×{width}")
        rows = {part: self.parts[part] for part in parts}
        return {p: Images.of_arrays(self.decoded.images, self.listing.labels[r], rows=r) for p, r in rows.items()}

    @cached_property
    def parts(self) -> dict[Part, NDArray[np.intp]]:
        """The indices of the files of each part, in the order of the listing.

        Raises:
            UserError: If a part is too large, or if two parts have the same file and `duplicates` is `refuse`.
        """
        parts = self._split() if self._evaluated is None else self._undivided(self._evaluated)
        self.equal_files.report(parts)
        untrained = {*range(self.num_classes)} - {*self.listing.labels[parts["train"]].tolist()}
        if untrained and self._evaluated is None:
            names = [self.class_names[label] for label in sorted(untrained)]
            announce(f"WARNING: no training images are left of {count(names, 'class', 'classes')}: {some(names)}")
        return parts

    def _split(self) -> dict[Part, NDArray[np.intp]]:
        usable, of_file = np.flatnonzero(self.decoded.valid), np.array(self.listing.parts)
        parts: dict[Part, NDArray[np.intp]] = {part: usable[of_file[usable] == part] for part in _PARTS}
        parts["train"] = usable[np.isin(of_file[usable], ("", "train"))]
        if self.folds is not None:  # which are of all images that are not for the test
            parts["train"], parts["val"] = np.sort(np.concatenate([parts["train"], parts["val"]])), usable[:0]
        if self._is_divided("test") and (size := self.test_size):
            parts["train"], parts["test"] = self.equal_files.divide(
                parts["train"], lambda labels: stratified_split(labels, number_of(size, len(labels), "test_size"))
            )
        if self._is_divided("val"):
            parts["train"], parts["val"] = self.equal_files.divide(parts["train"], self.split)
        return parts

    def _undivided(self, part: Part) -> dict[Part, NDArray[np.intp]]:
        """Return the images of one part, or all of a folder that is not divided, as that part; the others are empty."""
        usable, of_file = np.flatnonzero(self.decoded.valid), np.array(self.listing.parts)
        found = part if part in self.listing.parts else ""
        chosen = usable[of_file[usable] == found]
        source = printable(str(self.labels or self.root))
        if not len(chosen):
            raise UserError(
                f"{source} has {' and '.join(sorted({*self.listing.parts}))} but no {part}; give a folder of class "
                f"folders, all of which are evaluated, or one with {part}/<class>/"
            )
        self.equal_files.report_used(chosen, self._find_used, source)
        whole = f"all {len(chosen):,} images" if not found else f"the {len(chosen):,} {part} images"
        rank_zero_info(f"Evaluated: {whole} of {source}; the model was trained on another folder")
        return {name: chosen if name == part else chosen[:0] for name in _PARTS}

    def evaluate_on(
        self,
        part: Part,
        class_names: Sequence[str],
        in_channels: int | None,
        trained: object,
        find_used: FindUsed,
    ) -> None:
        """Use this folder to evaluate a model that was trained on another one.

        The images of the folder `part` are evaluated, or all images of a folder without parts; it needs no training
        images. If it has the files of the training, only at another place, nothing changes.

        Args:
            part: `val` or `test`.
            class_names: Classes of the model, in the order of its labels; the folder may have some of them.
            in_channels: Channels of the images that the model takes, if they are known.
            trained: What `state_dict` had for the files of the training, under `crc32_of_files`.
            find_used: Returns those of some digests whose files the model was trained or validated on.
        """
        self._classes = class_names
        if self.channels == "auto" and in_channels is not None:
            self.channels = "grey" if in_channels == 1 else "rgb"
        with suppress(UserError):  # too few images to be divided as those of the training: then, they are others
            if {"", "train"} & {*self.listing.parts} and self._crc32(self._split()["train"]) == trained:
                return
        self._evaluated, self._find_used = part, find_used

    def _crc32(self, files: NDArray[np.intp]) -> int:
        return zlib.crc32(self.decoded.digests[files].tobytes())

    def _is_divided(self, part: Part) -> bool:
        """Whether the images of a part are taken from the training images: then they depend on all files."""
        is_evaluated = self._evaluated is not None  # then, the folder has nothing but what is evaluated
        return not is_evaluated and (part not in self.listing.parts or (part == "val" and self.folds is not None))

    def state_dict(self) -> dict[str, Any]:
        """Return what identifies the training images."""
        if not (state := super().state_dict()):
            return {}
        return {**state, "crc32_of_files": self._crc32(self.parts["train"])}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse other training images, and test or validation images that may have been trained on.

        Raises:
            UserError: If the folder has changed since the training.
        """
        super().load_state_dict(state_dict)
        trained = state_dict.get("crc32_of_files")
        if self.trainer is None or (stage := self.trainer.state.fn) == "fit":
            return
        part: Part = "val" if stage == "validate" else "test"
        if self._is_divided(part) and trained not in (None, self._crc32(self.parts["train"])):
            raise UserError(
                f"the files of {self.title}, or how they are split, are not those of the training, so that the images "
                "to evaluate may have been trained on; add --data.labels with the `split.csv` of the run, which names "
                "its files, or train a new run"
            )

    def require_outside(self, folder: Path) -> None:
        """Refuse a folder for the results of runs inside of `root`: their figures would be images of a class.

        Raises:
            UserError: If it is there.
        """
        if self.labels is None and folder.resolve().is_relative_to(self.root.resolve()):
            raise UserError(
                f"the run would be written into {printable(str(folder))}, among the images of --data.root {self.root}; "
                "choose a folder outside with --trainer.default_root_dir, or run the command elsewhere"
            )

    def files(self, part: Part) -> list[str]:
        """Return the path of each image relative to `root`."""
        return [self.listing.files[i] for i in self.parts[part].tolist()]

    def has_images(self, part: Part) -> bool:
        """Whether there are images of a part; for the test, before they are decoded."""
        if part == "test" and self._evaluated is None:
            return bool(self.test_size) or "test" in self.listing.parts
        return len(self.parts[part]) > 0

    def split_rows(self) -> list[tuple[str, str, str, str]]:
        """Return file, label, part and digest of each image, sorted."""
        listing, digests = self.listing, self.decoded.digests
        return sorted(
            (listing.files[i], self.class_names[listing.labels[i]], part, digests[i].decode())
            for part, files in self.parts.items()
            for i in files.tolist()
        )
