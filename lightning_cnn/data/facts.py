"""The facts of a dataset: classes, statistics, checksums and sources. Imports nothing of the package."""

import math
from dataclasses import dataclass, field

#: The four files of every dataset in MNIST's format, by split and content.
TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


@dataclass(frozen=True)
class Framing:
    """How the images of a dataset were made from larger ones, each cropped to its foreground.

    The defaults are MNIST's.

    Attributes:
        side: Longer side of the foreground after scaling, in pixels, at least 1, and at most that of the images.
        by_mass: Whether the foreground is centred by its centre of mass, or else by its bounding box.

    Raises:
        ValueError: If `side` is not a whole number in its range, or `by_mass` is not a bool.
    """

    side: int = 20
    by_mass: bool = True

    def __post_init__(self) -> None:
        if type(self.side) is not int or self.side < 1:
            raise ValueError(f"side must be at least 1, got {self.side}")
        if type(self.by_mass) is not bool:
            raise ValueError(f"by_mass must be true or false, got {self.by_mass!r}")


@dataclass(frozen=True)
class DatasetFacts:
    """The facts of a dataset in MNIST's format: greyscale images of one size in four IDX files.

    Attributes:
        name: Name in run folders and on the command line, for example ``mnist``.
        title: Name in messages and figures, for example ``Fashion-MNIST``.
        folder: Folder below the data directory, in torchvision's layout.
        classes: Class names, in the order of the labels.
        mean: Mean of the training pixels, scaled to [0, 1].
        std: Standard deviation of the training pixels, scaled to [0, 1].
        sha256: SHA-256 of each raw (decompressed) file in `FILES`.
        mirrors: HTTPS folders with the gzipped files, in the order to try.
        system_folder: Folder where a system package installs the gzipped files, if there is one.
        debian_package: Debian and Ubuntu package with the gzipped files, if there is one.
        sample_sha256: SHA-256 of each raw file of the sample that ships with this package.
        sample_note: Remark to print whenever the sample is used.
        image_size: Height and width of the images in pixels; None for what the files say.
        framing: How the images were made from larger ones; None if that is unknown.
        training_images: Number of training images of the full dataset.

    Raises:
        ValueError: If two classes have the same name, or the standard deviation is not greater than 0.
    """

    name: str
    title: str
    folder: str
    classes: tuple[str, ...]
    mean: float
    std: float
    sha256: dict[str, str]
    mirrors: tuple[str, ...] = ()
    sample_sha256: dict[str, str] = field(default_factory=dict)
    system_folder: str | None = None
    debian_package: str | None = None
    sample_note: str = ""
    image_size: tuple[int, int] | None = None
    framing: Framing | None = None
    training_images: int = 60_000

    def __post_init__(self) -> None:
        if same := [name for name in self.classes if not name or self.classes.count(name) > 1]:
            raise ValueError(f"classes must have different names, got {same[0]!r} twice")
        if not (0 < self.std < math.inf and math.isfinite(self.mean)):
            raise ValueError(f"mean must be a number and std one greater than 0, got {self.mean} and {self.std}")
