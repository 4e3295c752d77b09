"""The IDX format of the MNIST files: a magic number and the sizes, both big-endian, then the bytes."""

import math
import struct

import numpy as np
from numpy.typing import NDArray

_UNSIGNED_BYTES = 0x08


class IdxError(ValueError):
    """The bytes are not the expected IDX file."""


def decode_images(content: bytes, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Return the images in an IDX file as a writable array of shape (N, H, W).

    Args:
        content: The file, whose header says how large the images are.
        size: The height and the width that they must have; None for any.

    Raises:
        IdxError: If the header or the length is wrong, or the images have another size.
    """
    images = _decode(content, dimensions=3)
    if size not in (None, images.shape[1:]):
        raise IdxError("images must be {}×{}, got {}×{}".format(*size, *images.shape[1:]))
    if 0 in images.shape:
        raise IdxError("its images have no pixels")
    return images


def decode_labels(content: bytes, n_classes: int) -> NDArray[np.uint8]:
    """Return the labels in an IDX file as a writable array of shape (N,).

    Raises:
        IdxError: If the header or the length is wrong, or a label is not below `n_classes`.
    """
    labels = _decode(content, dimensions=1)
    if labels.max() >= n_classes:
        raise IdxError(f"labels must be below {n_classes}, got {labels.max()}")
    return labels


def encode(array: NDArray[np.uint8]) -> bytes:
    """Return the array of unsigned bytes, of any shape, as an IDX file."""
    return struct.pack(f">HBB{array.ndim}I", 0, _UNSIGNED_BYTES, array.ndim, *array.shape) + array.tobytes()


def _decode(content: bytes, dimensions: int) -> NDArray[np.uint8]:
    header = struct.Struct(f">I{dimensions}I")
    if len(content) < header.size:
        raise IdxError(f"truncated inside the header, after {len(content)} bytes")
    magic, *shape = header.unpack_from(content)
    expected_magic = _UNSIGNED_BYTES << 8 | dimensions
    if magic != expected_magic:
        raise IdxError(f"magic number must be 0x{expected_magic:08x}, got 0x{magic:08x}")
    if math.prod(shape) != len(content) - header.size:
        raise IdxError(f"the header announces {math.prod(shape)} bytes, got {len(content) - header.size}")
    if shape[0] == 0:
        raise IdxError("it holds no items")
    # Copied, because arrays over `bytes` are read-only and torch warns about sharing those.
    return np.frombuffer(content, np.uint8, offset=header.size).reshape(shape).copy()
