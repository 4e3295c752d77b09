"""What arrays of images and labels must be like."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def checked_arrays(images: Any, labels: Any, name: str = "images") -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images `(N, C, H, W)` and labels `(N,)`.

    Args:
        images: Arrays or tensors, uint8, `(N, H, W)` if they are grey, otherwise `(N, C, H, W)`.
        labels: The class of each image, integers from 0, `(N,)`.
        name: What messages call the images.

    Raises:
        ValueError: If they have another shape or type.
    """
    pixels, classes = (x.cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x) for x in (images, labels))
    if pixels.dtype != np.uint8:
        raise ValueError(f"{name} must be uint8 from 0 to 255, got {pixels.dtype}; scale and convert them")
    if pixels.ndim == 4 and pixels.shape[1] > 4 and pixels.shape[3] in (1, 3, 4):
        raise ValueError(f"{name} must be (N, C, H, W), got {pixels.shape}; use np.moveaxis({name}, -1, 1)")
    if pixels.ndim not in (3, 4) or 0 in pixels.shape:
        raise ValueError(f"{name} must be (N, H, W) or (N, C, H, W), got {pixels.shape}")
    if classes.shape != (len(pixels),) or classes.dtype.kind not in "iu" or classes.min() < 0:
        raise ValueError(
            f"the labels of {name} must be {len(pixels)} integers of at least 0, got {classes.dtype} {classes.shape}"
        )
    if min(pixels.strides) < 0:  # of a reversed array, such as BGR read as RGB; torch has no such strides
        pixels = pixels.copy()
    return pixels[:, None] if pixels.ndim == 3 else pixels, classes.astype(np.int64)
