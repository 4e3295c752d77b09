"""What a kind of picture is, and the kinds that there are."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: What is on the pictures of a kind.
DIGITS, CLOTHES, HANDWRITING = "digits", "clothes", "handwriting"


@dataclass(frozen=True)
class Kind:
    """A kind of picture.

    Attributes:
        name: The name of its function.
        draw: Takes a generator and images, and returns a picture.
        subject: What the images are.
        num_images: How many images are on a picture.
        is_unclear: Whether there is no right answer: the picture is unclear or blank.
    """

    name: str
    draw: Callable[..., Image.Image]
    subject: str
    num_images: int
    is_unclear: bool

    def picture(self, images: NDArray[np.uint8], number: int, seed: int = 0) -> Image.Image:
        """Return the picture of the image with this number; the same whenever it is drawn, and whatever else is."""
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode()), number])
        return self.draw(rng, *(images[(number + other) % len(images)] for other in range(self.num_images)))


KINDS: dict[str, Kind] = {}


def kind(subject: str = DIGITS, num_images: int = 1, is_unclear: bool = False) -> Callable[[Any], Any]:
    """Return a decorator that makes a kind of a function."""

    def add(draw: Callable[..., Image.Image]) -> Callable[..., Image.Image]:
        KINDS[draw.__name__] = Kind(draw.__name__, draw, subject, num_images, is_unclear)
        return draw

    return add
