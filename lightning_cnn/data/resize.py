"""How an image of any size becomes an array of one size, the same in training and in `predict`."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: How an image of another shape is made to fit.
Mode = Literal["crop", "pad", "stretch"]
#: The longest side in pixels: more is a photograph, and no image to classify.
MAX_SIDE = 4096


@dataclass(frozen=True)
class Resize:
    """Resizes an image from `image_files.read` to `size`, with antialiasing.

    Pixels are averaged bilinearly (`PIL.Image.Resampling.BILINEAR`), the default of torchvision's `Resize`. An image
    that has the size already keeps its values.

    Args:
        size: Height and width in pixels, each 1 to 4096.
        mode: `crop`: the largest centred part that has the shape of `size`, as by torchvision's `Resize` and
            `CenterCrop`. `pad`: the whole image, centred; the rest is black. `stretch`: the whole image, distorted.
        channels: 3 for RGB, 1 for greyscale; images are converted.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> Resize((2, 3), channels=3)(Image.new("L", (100, 50), 7)).shape
        (3, 2, 3)
    """

    size: tuple[int, int]
    mode: Mode = "crop"
    channels: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))  # a list, where it comes from a file
        if (
            len(self.size) != 2
            or {*map(type, self.size)} != {int}
            or not 1 <= min(self.size) <= max(self.size) <= MAX_SIDE
        ):
            raise ValueError(f"size must be a height and a width from 1 to {MAX_SIDE}, got {self.size}")
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode must be crop, pad or stretch, got {self.mode!r}")
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, got {self.channels}")

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return the image as an array `(C, H, W)`.

        Args:
            image: An image of mode RGB, L or F, with values from 0 to 255.
        """
        if self.channels == 1 and image.mode == "RGB":
            image = image.convert("L")
        height, width = self.size
        if image.size != (width, height):
            image = self._fitted(image)
        pixels = np.asarray(image)
        if image.mode == "F":
            pixels = np.rint(pixels)  # averages of values from 0 to 255 are within them, too
        planes = np.atleast_3d(pixels).transpose(2, 0, 1).astype(np.uint8, order="C")
        return planes if len(planes) == self.channels else planes.repeat(self.channels, axis=0)

    def _fitted(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        method = Image.Resampling.BILINEAR
        if self.mode == "crop":
            return image.resize((width, height), method, box=self._crop(image.width, image.height))
        if self.mode == "stretch":
            return image.resize((width, height), method)
        scale = min(width / image.width, height / image.height)
        inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        padded = Image.new(image.mode, (width, height))
        padded.paste(image.resize(inner, method), ((width - inner[0]) // 2, (height - inner[1]) // 2))
        return padded

    def _crop(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return which part of an image to resize. Scaled as a whole before it is cropped, a line would take gigabytes.

        It is computed as by torchvision, which crops whole pixels of the scaled image.
        """
        target_height, target_width = self.size
        if width * target_height < height * target_width:
            scaled_width, scaled_height = target_width, max(target_height, target_width * height // width)
        else:
            scaled_width, scaled_height = max(target_width, target_height * width // height), target_height
        left, top = round((scaled_width - target_width) / 2), round((scaled_height - target_height) / 2)
        x, y = width / scaled_width, height / scaled_height
        return left * x, top * y, min(width, (left + target_width) * x), min(height, (top + target_height) * y)
