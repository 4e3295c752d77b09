"""From image files to predictions: files are read, framed like the training images, and classified in batches.

Used by `commands.predict`; imports neither torch nor another library that computes.
"""

import time
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_cnn.data.facts import Framing
from lightning_cnn.data.image_files import ImageFileError, OnError, read_pages, thumbnail
from lightning_cnn.data.image_paths import find
from lightning_cnn.data.resize import Resize
from lightning_cnn.errors import UserError
from lightning_cnn.predict.framing import Framed, frame
from lightning_cnn.predict.model import Model
from lightning_cnn.predict.output import Frame, Prediction

#: Seconds after which an incomplete batch is classified: large photographs take long to decode.
_MAX_WAIT = 1.0
#: The confidence below which an answer is called unclear.
MIN_CONFIDENCE = 0.8


class Predictor:
    """Frames images like the training images of a model, and classifies them.

    Args:
        model: The model, from `model.open_model`.

    Attributes:
        class_names: Names of the classes, in the order of the probabilities.
        framing: How the training images were made from larger ones.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.class_names = model.class_names
        self.framing = model.framing

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
        framed = frame(image, self.framing, invert, crop)
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

    def classify(self, images: NDArray[np.uint8]) -> list[tuple[str, float, str, float]]:
        """Return the most likely class of each image `(N, C, H, W)`, its probability, and the same of the second."""
        probabilities = self.probabilities(images)
        best_two = np.argsort(-probabilities, axis=1, kind="stable")[:, :2].tolist()
        return [
            (self.class_names[first], float(row[first]), self.class_names[second], float(row[second]))
            for row, (first, second) in zip(probabilities, best_two, strict=True)
        ]


def predict(
    predictor: Predictor,
    images: Iterable[str],
    on_error: OnError,
    invert: bool | None = None,
    crop: bool | None = None,
    batch_size: int = 256,
    num_thumbnails: int = 0,
) -> Iterator[list[tuple[Frame, Prediction]]]:
    """Yield the predictions of image files, batch by batch, so that any number of files needs little memory.

    Args:
        predictor: The classifier.
        images: Files, folders and patterns, as for `image_paths.find`.
        on_error: Called for each file, folder and pattern that cannot be read, which is then skipped.
        invert: Whether the foreground is dark on light; None to detect it.
        crop: Whether to crop to the foreground; None for all images that do not have the size of the training images.
            Both are only for training images that were framed by their foreground, such as MNIST's.
        batch_size: Images per batch, at least 1.
        num_thumbnails: How many of the first images to return with a thumbnail.
    """

    def frames() -> Iterator[Frame]:
        needed = num_thumbnails
        for path in find(images, on_error):
            for page, image in read_pages(path, on_error, predictor.fill):
                try:
                    framed = predictor.frame(image, invert, crop)
                except ImageFileError as error:
                    on_error(str(page), error)
                    continue
                original, foreground = (thumbnail(image), framed.foreground) if needed > 0 else (None, None)
                yield Frame(page, framed.pixels, original, framed.unclear, foreground)
                needed -= 1

    for batch in _batches(frames(), batch_size):
        results = predictor.classify(np.stack([framed.pixels for framed in batch]))
        yield [
            (framed, Prediction(str(framed.path), *result, unclear=framed.unclear or doubt(result[1])))
            for framed, result in zip(batch, results, strict=True)
        ]


def doubt(confidence: float) -> str:
    """Return why an answer with this confidence is unclear, or an empty text."""
    return "low confidence" if confidence < MIN_CONFIDENCE else ""


def _batches(frames: Iterator[Frame], size: int) -> Iterator[list[Frame]]:
    batch, start = [], time.monotonic()
    for framed in frames:
        batch.append(framed)
        if len(batch) == size or time.monotonic() - start > _MAX_WAIT:
            yield batch
            batch, start = [], time.monotonic()
    if batch:
        yield batch
