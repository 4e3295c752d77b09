"""What can be known of a dataset without its bytes."""

from dataclasses import dataclass, field

#: The four files of every dataset in MNIST's format, by split and content.
TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


@dataclass(frozen=True)
class Framing:
    """How the 28×28 images of a dataset were made from larger ones, each cropped to its ink.

    Attributes:
        side: Longer side of the ink after scaling, in pixels, 1 to 28.
        by_mass: Whether the ink's centre of mass was put into the centre of the image, or else the centre of its box.
            The defaults are MNIST's.

    Raises:
        ValueError: If `side` is out of its range.
    """

    side: int = 20
    by_mass: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.side <= 28:
            raise ValueError(f"side must be between 1 and 28, got {self.side}")


@dataclass(frozen=True)
class DatasetFacts:
    """The facts of a dataset in MNIST's format: 28×28 grey images in four IDX files.

    Attributes:
        name: How run folders and the command line call it, for example ``mnist``.
        title: How its authors call it.
        folder: Its folder below the data directory, as torchvision names it.
        classes: The class names, in the order of the labels.
        mean: Mean of the training pixels, scaled to [0, 1].
        std: Standard deviation of the training pixels, scaled to [0, 1].
        sha256: SHA-256 of each raw (decompressed) file in `FILES`.
        mirrors: HTTPS folders that hold the gzipped files, in the order to try them.
        system_folder: Where a system package puts the gzipped files, if one does.
        debian_package: The Debian and Ubuntu package that carries the gzipped files, if one does.
        sample_sha256: SHA-256 of each raw file of the sample that ships with this package.
        sample_note: What must be said about the sample whenever it is used, if anything.
        framing: How its images were made from larger ones.
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
    framing: Framing = Framing()
