"""Datasets in other formats than MNIST's: KMNIST, QMNIST, EMNIST and CIFAR-10, in torchvision's layout.

Their files are known by the MD5 that torchvision has for them, which is checked at every load; torchvision itself does
so only after a download. Missing files are downloaded by torchvision.
"""

import gzip
import hashlib
import io
import pickle
import string
import struct
import zipfile
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lightning_cnn.data import idx, sources
from lightning_cnn.data.base import ImageDataModule
from lightning_cnn.data.facts import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, Framing
from lightning_cnn.data.files import announce, locked
from lightning_cnn.data.mirrors import quoted, user_mirrors
from lightning_cnn.data.mnist import IMAGE_SIZE, MNIST
from lightning_cnn.errors import DataError, reason
from lightning_cnn.files import atomic_write

Arrays = tuple[NDArray[np.uint8], NDArray[np.integer]]


class PublishedDataModule(ImageDataModule):
    """A dataset whose files are known by their MD5.

    Args:
        data_dir: Folder of the datasets in torchvision's layout; missing files are downloaded into it. None
            means $LIGHTNING_CNN_DATA_DIR, or `data` if that is not set.
        val_size: Validation images, taken from the training images: their number (int), or their share (float).
        mirrors: As for `IDXDataModule`.
        kwargs: Arguments of `ImageDataModule`.
    """

    #: Folder below the data directory.
    folder: ClassVar[str]
    #: MD5 of each file in it.
    md5: ClassVar[dict[str, str]]
    #: Where each file is downloaded from, or else the archive that has all of them, with its MD5.
    addresses: ClassVar[dict[str, str]] = {}
    archive: ClassVar[tuple[str, str] | None] = None
    classes: ClassVar[tuple[str, ...]]
    shape: ClassVar[tuple[int, int, int]] = (1, *IMAGE_SIZE)
    not_hyperparameters = ("mirrors",)

    def __init__(
        self,
        data_dir: str | Path | None = None,
        val_size: int | float = 5000,
        mirrors: list[str] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(val_size=val_size, **kwargs)
        self.hparams["data_dir"] = None if data_dir is None else str(data_dir)
        self.data_dir = sources.default_data_dir() if data_dir is None else Path(data_dir)
        self.mirrors = user_mirrors(mirrors)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        return self.classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        return self.shape

    @property
    def framing(self) -> Framing | None:
        """How the images were made from larger ones, as MNIST's were if they are grey."""
        return MNIST.framing if self.shape[0] == 1 else None

    @property
    def record(self) -> dict[str, Any]:
        """What a run records about its images."""
        return {"dataset": self.title, "origin": str(self.data_dir / self.folder), "sample": False}

    def prepare_data(self) -> None:
        """Download missing files, once per node.

        Raises:
            DataError: If the dataset is not available.
        """
        folder = self.data_dir.expanduser() / self.folder
        if not self._missing(folder):
            return
        announce(f"fetching {self.title} into {folder}")
        with locked(folder):
            missing = self._missing(folder)  # unless another process has fetched them
            if self.archive is None:
                for file in missing:
                    self._download(folder / file, self.addresses[file], self.md5[file])
            elif missing:
                self._extract(folder, *self.archive)

    def _missing(self, folder: Path) -> list[str]:
        return [file for file in self.md5 if not (folder / file).is_file()]

    def _extract(self, folder: Path, address: str, md5: str) -> None:
        """Download the archive, and write those of its files that are missing, each at once."""
        from torchvision.datasets.utils import extract_archive  # type: ignore[import-untyped]  # a second to import

        archive = folder / PurePosixPath(address).name
        self._download(archive, address, md5)
        with TemporaryDirectory(dir=folder, prefix=".") as extracted:
            extract_archive(str(archive), extracted)
            for file in Path(extracted).rglob("*"):
                target = folder / file.relative_to(extracted)
                if file.is_file() and not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    file.replace(target)

    def _download(self, file: Path, address: str, md5: str) -> None:
        """Download a file, unless it is there, from the first address that has it: those of the user, or its own."""
        from torchvision.datasets.utils import check_integrity, download_url  # a second to import

        if check_integrity(str(file), md5):
            return
        name, failed = PurePosixPath(address).name, []
        own = [f"{mirror}/{path}" for mirror in self.mirrors for path in (name, f"{self.folder}/{name}")]
        for one in [*own, address]:
            try:
                with atomic_write(file) as part:
                    download_url(one, str(part.parent), part.name, md5)
                return
            except (RuntimeError, OSError, HTTPException) as error:
                failed.append(f"{one}: {quoted(reason(error))}")
        raise DataError(
            f"{self.title} is not in {file.parent} and cannot be downloaded ({'; '.join(failed)}); put "
            f"{', '.join(self._missing(file.parent))} there, pass the folder that has {self.folder} as "
            "--data.data_dir, or name a web folder that has them as --data.mirrors"
        )

    def _content(self, file: str) -> bytes:
        """Return the verified bytes of a file."""
        path = self.data_dir.expanduser() / self.folder / file
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({reason(error)}); fetch the dataset again") from error
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != self.md5[file]:
            raise DataError(f"{path} is damaged: its MD5 is not {self.md5[file]}; delete it to fetch it again")
        return content


class KMNISTDataModule(PublishedDataModule):
    """KMNIST: 60,000 training and 10,000 test images of cursive Japanese characters, ten classes.

    Clanuwat et al., "Deep Learning for Classical Japanese Literature", arXiv:1812.01718, 2018.
    """

    name, title, folder = "kmnist", "KMNIST", "KMNIST/raw"
    classes = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    md5: ClassVar = {
        f"{TRAIN_IMAGES}.gz": "bdb82020997e1d708af4cf47b453dcf7",
        f"{TRAIN_LABELS}.gz": "e144d726b3acfaa3e44228e80efcd344",
        f"{TEST_IMAGES}.gz": "5c965bf0a639b31b8f53240b1b52f4d7",
        f"{TEST_LABELS}.gz": "7320c461ea6c1c855c0b718fb2a4b134",
    }
    addresses: ClassVar = {file: f"http://codh.rois.ac.jp/kmnist/dataset/kmnist/{file}" for file in md5}

    def read(self, is_test: bool) -> Arrays:
        """Return images `(N, C, H, W)` and labels `(N,)`."""
        images, labels = [*self.md5][2:] if is_test else [*self.md5][:2]
        pixels = idx.decode_images(gzip.decompress(self._content(images)), IMAGE_SIZE)
        return pixels[:, None], idx.decode_labels(gzip.decompress(self._content(labels)), len(self.classes))


_QMNIST = "https://raw.githubusercontent.com/facebookresearch/qmnist/master/"


class QMNISTDataModule(PublishedDataModule):
    """QMNIST: MNIST's training images anew, and 60,000 test images of which the first 10,000 are MNIST's.

    Yadav and Bottou, "Cold Case: The Lost MNIST Digits", NeurIPS 2019 (arXiv:1905.10498).
    """

    name, title, folder = "qmnist", "QMNIST", "QMNIST/raw"
    classes = tuple(string.digits)
    md5: ClassVar = {
        "qmnist-train-images-idx3-ubyte.gz": "ed72d4157d28c017586c42bc6afe6370",
        "qmnist-train-labels-idx2-int.gz": "0058f8dd561b90ffdd0f734c6a30e5e4",
        "qmnist-test-images-idx3-ubyte.gz": "1394631089c404de565df7b7aeaf9412",
        "qmnist-test-labels-idx2-int.gz": "5b5b05890a5e13444e108efe57b788aa",
    }
    addresses: ClassVar = {file: _QMNIST + file for file in md5}

    def read(self, is_test: bool) -> Arrays:
        """Return images `(N, C, H, W)` and labels `(N,)`, the first of eight numbers for each image."""
        images, labels = [*self.md5][2:] if is_test else [*self.md5][:2]
        pixels = idx.decode_images(gzip.decompress(self._content(images)), IMAGE_SIZE)
        content = gzip.decompress(self._content(labels))
        _, count, columns = struct.unpack_from(">III", content)
        numbers = np.frombuffer(content, ">i4", offset=12).reshape(count, columns)
        return pixels[:, None], numbers[:, 0].astype(np.int64)


Split = Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"]
_MERGED = set("cijklmopsuvwxyz")  # small letters that look like the capital ones
_ALL = sorted(string.digits + string.ascii_letters)
_NOT_MERGED = tuple(name for name in _ALL if name not in _MERGED)
_EMNIST: dict[str, tuple[str, ...]] = {
    "byclass": tuple(_ALL),
    "bymerge": _NOT_MERGED,
    "balanced": _NOT_MERGED,
    "letters": tuple(string.ascii_lowercase),
    "digits": tuple(string.digits),
    "mnist": tuple(string.digits),
}


class EMNISTDataModule(PublishedDataModule):
    """EMNIST: up to 814,255 images of handwritten digits and letters.

    Cohen, Afshar, Tapson and van Schaik, "EMNIST: an extension of MNIST to handwritten letters", arXiv:1702.05373.

    Args:
        subset: `byclass` (62 classes), `bymerge` or `balanced` (47), `letters` (26), `digits` or `mnist` (10).
        kwargs: Arguments of `PublishedDataModule`.

    Raises:
        ValueError: If there is no such subset.
    """

    folder = "EMNIST/raw"
    md5: ClassVar = {"gzip.zip": "58c8d27c78d21e728a6bc7b3cc06412e"}
    addresses: ClassVar = {"gzip.zip": "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip"}

    def __init__(self, subset: Split = "balanced", **kwargs: Any) -> None:
        if subset not in get_args(Split):
            raise ValueError(f"subset must be one of {', '.join(get_args(Split))}, got {subset!r}")
        super().__init__(**kwargs)
        self.subset = subset
        self.name, self.title = f"emnist_{subset}", f"EMNIST {subset}"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names, in the order of the labels."""
        return _EMNIST[self.subset]

    def read(self, is_test: bool) -> Arrays:
        """Return images `(N, C, H, W)`, which lie on their side in the file, and labels `(N,)`."""
        prefix = f"gzip/emnist-{self.subset}-{'test' if is_test else 'train'}"
        with zipfile.ZipFile(io.BytesIO(self._content("gzip.zip"))) as archive:
            pixels = idx.decode_images(gzip.decompress(archive.read(f"{prefix}-images-idx3-ubyte.gz")), IMAGE_SIZE)
            stored = gzip.decompress(archive.read(f"{prefix}-labels-idx1-ubyte.gz"))
        first = 1 if self.subset == "letters" else 0  # whose labels are counted from 1
        labels = idx.decode_labels(stored, len(self.class_names) + first) - first
        return np.ascontiguousarray(pixels.transpose(0, 2, 1))[:, None], labels


class CIFAR10DataModule(PublishedDataModule):
    """CIFAR-10: 50,000 training and 10,000 test photographs of 32×32 pixels in colour, ten classes.

    Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """

    name, title, folder = "cifar10", "CIFAR-10", "."
    shape = (3, 32, 32)
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    md5: ClassVar = {
        "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
        "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
        "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
    }
    archive = ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a")

    def read(self, is_test: bool) -> Arrays:
        """Return images `(N, C, H, W)` and labels `(N,)`."""
        files = [*self.md5][5:] if is_test else [*self.md5][:5]
        batches = [_ArrayUnpickler(io.BytesIO(self._content(file)), encoding="bytes").load() for file in files]
        pixels = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, *self.shape)
        return pixels, np.concatenate([batch[b"labels"] for batch in batches])


class _ArrayUnpickler(pickle.Unpickler):
    """Reads NumPy arrays and plain values, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode") or (
            module.startswith("numpy") and name in ("_reconstruct", "ndarray", "dtype")
        ):
            module = module.replace("numpy.core", "numpy._core")  # where they were when the files were written
            return super().find_class(module, name)
        raise DataError(f"a file of CIFAR-10 has {module}.{name}, which is not an array; fetch it again")
