"""Which images are for training and which for validation: stratified, and the same for every run."""

import numpy as np
from numpy.typing import NDArray

from lightning_cnn.errors import UserError

#: The split does not depend on the seed of the run: every run on every machine validates on the same images.
SPLIT_SEED = 0


def stratified_split(labels: NDArray[np.integer], val_size: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the sorted indices of the training and of the validation images.

    Each class has the same share of the validation images as of all images, to within one image. The split depends
    only on the arguments.

    Args:
        labels: Class of each image, `(N,)`.
        val_size: Number of validation images, 1 to N − 1.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    classes, counts = np.unique(labels, return_counts=True)
    shares = val_size * counts / len(labels)
    quota = np.floor(shares).astype(int)
    # The rest after rounding down goes to the classes with the largest remainders.
    quota[np.argsort(quota - shares, kind="stable")[: val_size - quota.sum()]] += 1
    chosen = [rng.permutation(np.flatnonzero(labels == c))[:n] for c, n in zip(classes, quota, strict=True)]
    val = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), val), val


def stratified_fold(labels: NDArray[np.integer], folds: int, fold: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the sorted indices of the training and of the validation images of one fold of a cross-validation.

    Each image is a validation image in exactly one fold. The folds differ by at most one image, in all and per class,
    and depend only on `labels` and `folds`.

    Args:
        labels: Class of each image, `(N,)`.
        folds: Number of folds, 2 to N.
        fold: The fold to validate on, from 0.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    by_class = np.concatenate([rng.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)])
    val = np.sort(by_class[fold::folds])
    return np.setdiff1d(np.arange(len(labels)), val), val


def require_share(name: str, share: int | float) -> None:
    """Raise `ValueError` if a share (float) of images is none; of a number (int), `number_of` knows the range."""
    if isinstance(share, float) and not 0 < share < 1:
        raise ValueError(f"{name} must be a number of images, or a share between 0 and 1, got {share}")


def number_of(share: int | float, images: int, name: str = "val_size") -> int:
    """Return how many of the images to set aside.

    Args:
        share: Their number (int) or their share (float).
        images: Number of all images.
        name: The argument that says it.

    Raises:
        UserError: If no image would be set aside, or none would be left.

    Example:
        >>> number_of(50, images=200), number_of(0.1, images=200)
        (50, 20)
    """
    number = round(share * images) if isinstance(share, float) else share
    if images < 2:
        raise UserError(f"{name} {share}: {images} image{'s' * (images != 1)} cannot be split; add some")
    if not 1 <= number < images:
        share_of = f", which is {number} of {images:,} images; add images, or give another share"
        found = f"{share}" if number == share else f"{share}{share_of}"
        raise UserError(f"{name} must be between 1 and {images - 1}, got {found}")
    return number
