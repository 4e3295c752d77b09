"""From image files to predictions: files are read, framed like the training images, and classified in batches.

Imports neither torch nor another library that computes.
"""

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_cnn.data.facts import Framing
from lightning_cnn.data.image_files import OnError, read_pages
from lightning_cnn.data.image_paths import find
from lightning_cnn.data.pillow_images import ImageFileError, thumbnail
from lightning_cnn.data.resize import Resize
from lightning_cnn.errors import UserError
from lightning_cnn.predict.framing import Framed, frame
from lightning_cnn.predict.model import Model
from lightning_cnn.predict.prediction import Prediction, min_confidence

#: Seconds after which an incomplete batch is classified: large photographs take long to decode.
_MAX_WAIT = 1.0


class Predictor:
    """Frames images like the training images of a model, and classifies them.

    Args:
        model: The model, from `model.open_model`.

    Attributes:
        class_names: Names of the classes, in the order of the probabilities.
        framing: How the training images were made from larger ones.
        image_shape: Channels, height and width of the images.
        min_confidence: The confidence below which a prediction is unclear.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.min_confidence = min_confidence(model.framing, model.label_smoothing, len(model.class_names))
        self.class_names = model.class_names
        self.framing = model.framing
        self.image_shape = model.image_shape

    @property
    def frames_foreground(self) -> bool:
        """Whether images are cropped to their foreground, as those of MNIST were."""
        return isinstance(self.framing, Framing)

    @property
    def fill(self) -> str | None:
        """The colour that transparent pixels become: objects, such as clothes, were photographed on white."""
        return None if not isinstance(self.framing, Framing) or self.framing.by_mass else "white"

    def frame(self, image: Image.Image, invert: bool | None = None, crop: bool | None = None) -> Framed:
        """Return the input of the network for an image, `(C, H, W)`; the arguments are those of `framing.frame`.

        Raises:
            ImageFileError: If there is nothing in the image.
        """
        if isinstance(self.framing, Resize):
            return Framed(self.framing(image))
        framed = frame(image, self.framing, invert, crop, self.image_shape[1])
        return framed._replace(pixels=framed.pixels[None])

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probability of each class, `(N, num_classes)`, for images `(N, C, H, W)`.

        Raises:
            UserError: If they are NaN or infinite.
        """
        probabilities = self._model.probabilities(images)
        if not np.isfinite(probabilities).all():
            raise UserError("the network has outputs that are NaN or infinite, so it predicts nothing; use another one")
        return probabilities


class _Frame(NamedTuple):
    """An image with its name, before it is classified; its thumbnails are None where they are not needed."""

    name: str
    framed: Framed
    original: NDArray[np.uint8] | None


def read_files(names: Iterable[str], on_error: OnError, fill: str | None) -> Iterator[tuple[str, Image.Image]]:
    """Yield the images in files, folders and patterns, each one with its name.

    Args:
        names: As for `image_paths.find`.
        on_error: Called for each file, folder and pattern that cannot be read.
        fill: The colour of transparent pixels, as for `image_files.read`.
    """
    for path in find(names, on_error):
        for page, image in read_pages(path, on_error, fill):
            yield str(page), image


def predict_images(
    predictor: Predictor,
    images: Iterable[tuple[str, Image.Image]],
    on_error: OnError,
    invert: bool | None = None,
    crop: bool | None = None,
    batch_size: int = 256,
    num_thumbnails: int = 0,
) -> Iterator[list[Prediction]]:
    """Yield the predictions of images, batch by batch, so that any number of them needs little memory.

    Args:
        predictor: The classifier.
        images: Names and images as `image_files.read` returns them.
        on_error: Called for each image with nothing in it, which is then skipped.
        invert: Whether the foreground is dark on light; None to detect it.
        crop: Whether to crop to the foreground; None for all images that do not have the size of the training images.
            Both are only for training images that were framed by their foreground, such as MNIST's.
        batch_size: Images per batch, at least 1.
        num_thumbnails: How many of the first images to return with a thumbnail.
    """

    def frames() -> Iterator[_Frame]:
        needed = num_thumbnails
        for name, image in images:
            try:
                framed = predictor.frame(image, invert, crop)
            except ImageFileError as error:
                on_error(name, error)
                continue
            if needed > 0:
                yield _Frame(name, framed, thumbnail(image))
            else:
                yield _Frame(name, framed._replace(foreground=None), None)
            needed -= 1

    for batch in _batches(frames(), batch_size):
        probabilities = predictor.probabilities(np.stack([framed.pixels for _, framed, _ in batch]))
        yield [
            Prediction(
                name, predictor.class_names, row, *framed[:2], original, framed.foreground, predictor.min_confidence
            )
            for (name, framed, original), row in zip(batch, probabilities, strict=True)
        ]


def _batches(frames: Iterator[_Frame], size: int) -> Iterator[list[_Frame]]:
    batch, start = [], time.monotonic()
    for framed in frames:
        batch.append(framed)
        if len(batch) == size or time.monotonic() - start > _MAX_WAIT:
            yield batch
            batch, start = [], time.monotonic()
    if batch:
        yield batch
