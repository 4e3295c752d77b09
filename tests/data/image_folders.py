"""Tiny folders of class folders, whose images can be told apart."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("cat", "cow", "dog")


def write_images(
    root: str | Path,
    parts: Sequence[str] = ("",),
    classes: Sequence[str] = CLASSES,
    n: int = 10,
    colour: bool = True,
    size: tuple[int, int] = (16, 14),
) -> Path:
    """Write `n` PNG images for each part and class: noise, with a bright square whose place depends on the class."""
    rng = np.random.default_rng(len(parts) + n)
    for part in parts:
        for label, name in enumerate(classes):
            folder = Path(root, part, name)
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(n):
                pixels = rng.integers(0, 96, (*size, 3), dtype=np.uint8)
                pixels[1 + 3 * label : 5 + 3 * label, 2:8] += 128
                image = Image.fromarray(pixels)
                (image if colour else image.convert("L")).save(folder / f"{part}{number}.png", compress_level=1)
    return Path(root)
