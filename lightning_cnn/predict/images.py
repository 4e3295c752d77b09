"""What a user of Python gives to be classified: files, arrays, tensors and images of Pillow, in any combination."""

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_cnn.data.image_files import OnError
from lightning_cnn.data.image_paths import require_local
from lightning_cnn.data.pillow_images import ImageFileError, prepared
from lightning_cnn.errors import UserError
from lightning_cnn.predict.pipeline import read_files

if TYPE_CHECKING:
    from torch import Tensor

#: What can be classified.
Images: TypeAlias = "str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor | Iterable[Any]"
#: Numbers of channels of an image with the channels last, and with the channels first.
_LAST, _FIRST = (1, 3, 4), (1, 3)


def is_one(images: object, shape: tuple[int, int, int]) -> bool:
    """Whether this is a single image, unless it is a file of several pages: no folder, pattern, batch or sequence.

    Args:
        images: What the user has given.
        shape: Channels, height and width of the images of the model.
    """
    if isinstance(images, str | os.PathLike):
        name = os.path.expanduser(os.fspath(images))  # noqa: PTH111  # `Path.expanduser` raises RuntimeError
        return not os.path.isdir(name) and (os.path.lexists(name) or not glob.has_magic(name))  # noqa: PTH112
    if (array := as_array(images)) is not None:
        return _is_single(array, shape)
    return isinstance(images, Image.Image)


def named_images(
    images: object, shape: tuple[int, int, int], fill: str | None, on_error: OnError
) -> Iterator[tuple[str, Image.Image]]:
    """Yield images as `image_files.read` returns them, each one with its name: its file, or else its position.

    Args:
        images: What the user has given.
        shape: Channels, height and width of the images of the model.
        fill: The colour of transparent pixels, as for `image_files.read`.
        on_error: Called for what cannot be read.

    Raises:
        UserError: If something is not an image, or the address of one.
    """
    position = 0
    for item in _items(images):
        if isinstance(item, str | os.PathLike):
            name = os.path.expanduser(os.fspath(item))  # noqa: PTH111
            require_local([name])
            for found in read_files([name if name != "-" else "./-"], on_error, fill):
                yield found
                position += 1
            continue
        for image in _in_memory(item, shape):
            name = str(getattr(image, "filename", "")) or f"[{position}]"
            position += 1
            try:
                yield name, prepared(image, fill)
            except ImageFileError as error:
                on_error(name, error)


def as_array(images: object) -> NDArray[Any] | None:
    """Return an array, or a tensor as an array in main memory; None for anything else."""
    torch: Any = sys.modules.get("torch")  # without it, there are no tensors
    if torch is not None and isinstance(images, torch.Tensor):
        tensor: Any = images
        tensor = tensor.detach().cpu()
        images = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return images if isinstance(images, np.ndarray) else None


def to_bytes(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return pixels as uint8, 0 to 255.

    Args:
        pixels: uint8, or floating point from 0 to 1.

    Raises:
        UserError: If they are of another type, or out of this range.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if not np.issubdtype(pixels.dtype, np.floating):
        raise UserError(
            f"images must be uint8 (0 to 255) or floating point (0 to 1), got {pixels.dtype}; convert them to uint8, "
            "or divide them by their largest value"
        )
    if not (pixels.size == 0 or (pixels.min() >= 0 and pixels.max() <= 1)):  # NaN is in no range
        raise UserError(
            f"images of floating point must have values from 0 to 1, got {pixels.min():g} to {pixels.max():g}; divide "
            "them by their largest value, or convert them to uint8"
        )
    return np.rint(255 * pixels.astype(np.float32)).astype(np.uint8)


def _items(images: object) -> Iterable[object]:
    """Return the items of a sequence, or what is not a sequence as the only item."""
    is_item = isinstance(images, str | os.PathLike | Image.Image) or as_array(images) is not None
    if not is_item and isinstance(images, Iterable):
        return images
    return [images]


def _in_memory(item: object, shape: tuple[int, int, int]) -> Iterable[Image.Image]:
    """Return the images of an array or a tensor, or one of Pillow's."""
    if isinstance(item, Image.Image):
        return [item]
    if (array := as_array(item)) is None:
        raise UserError(
            f"{type(item).__name__} is not an image; give a file, a folder, a pattern, a NumPy array, a tensor, an "
            "image of Pillow, or a list of these"
        )
    return map(Image.fromarray, _split(array, shape))


def _is_single(array: NDArray[Any], shape: tuple[int, int, int]) -> bool:
    """Whether an array is one image; three images of the size of grey training images are a batch, and no colours."""
    if array.ndim == 3 and shape[0] == 1 and array.shape[1:] == shape[1:]:
        return len(array) == 1
    return array.ndim == 2 or (array.ndim == 3 and (array.shape[0] in _FIRST or array.shape[2] in _LAST))


def _split(array: NDArray[Any], shape: tuple[int, int, int]) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of an array, as Pillow takes them: `(H, W)`, or with the channels last.

    Raises:
        UserError: If it has no shape or values of images.
    """
    batch = array[None] if _is_single(array, shape) else array
    if batch.ndim == 3:
        batch = batch[..., None]
    elif batch.ndim == 4 and batch.shape[1] in _FIRST:
        batch = np.moveaxis(batch, 1, -1)
    if batch.ndim != 4 or batch.shape[3] not in _LAST:
        raise UserError(
            f"an array of images must have the shape (H, W), (C, H, W), (H, W, C), (N, H, W), (N, C, H, W) or "
            f"(N, H, W, C) with 1 or 3 channels, or 4 where they are last, got {array.shape}"
        )
    pixels = to_bytes(batch)
    return (image[..., 0] if image.shape[2] == 1 else np.ascontiguousarray(image) for image in pixels)
