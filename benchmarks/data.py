"""The datasets as files that torchvision reads."""

from benchmarks.options import Options
from lightning_cnn.data import idx, sources
from lightning_cnn.data.facts import FILES
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST


def write_uncompressed(options: Options) -> None:
    """Verify both datasets, fetch them if they are missing, and write them uncompressed into `torchvision_dir`.

    Raises:
        DataError: If a dataset cannot be had.
    """
    for facts in (MNIST, FASHION_MNIST):
        raw = sources.load(facts, options.data_dir, options.allow_sample)
        arrays = (raw.train_images, raw.train_labels, raw.test_images, raw.test_labels)
        folder = options.torchvision_dir / facts.folder / "raw"
        folder.mkdir(parents=True)
        for file, array in zip(FILES, arrays, strict=True):
            (folder / file).write_bytes(idx.encode(array))
