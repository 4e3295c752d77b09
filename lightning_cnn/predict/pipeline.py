"""From image files to predictions: files are read, framed like the training images, and classified in batches.

Used by `commands.predict`; imports torch only when a checkpoint is loaded.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.data.facts import Framing
from lightning_cnn.data.image_files import ImageFileError, OnError, read_pages, thumbnail
from lightning_cnn.data.image_paths import find
from lightning_cnn.data.resize import Resize
from lightning_cnn.errors import UserError
from lightning_cnn.predict.framing import FRAMED_SHAPE, Framed, frame
from lightning_cnn.predict.output import Frame, Prediction
from lightning_cnn.startup import filter_warnings, quick_imports

#: Seconds after which an incomplete batch is classified: large photographs take long to decode.
_MAX_WAIT = 1.0
#: The confidence below which an answer is called unclear.
MIN_CONFIDENCE = 0.8


class Predictor:
    """The classifier of a checkpoint.

    Args:
        checkpoint: A checkpoint of `fit`, or a safetensors file of `export`.
        model: Class path of a classifier of the user's own; None for the class that the checkpoint names.

    Attributes:
        class_names: Names of the classes, in the order of the logits.
        framing: How the training images were made from larger ones.

    Raises:
        UserError: If the checkpoint cannot be used.
    """

    def __init__(self, checkpoint: Path, model: str | None = None) -> None:
        with quick_imports():
            from lightning_cnn.predict.loading import load_classifier
        filter_warnings()
        content = checkpoints.read(checkpoint)
        description: checkpoints.Description = content[checkpoints.KEY]
        self._classifier = load_classifier(content, model)
        num_classes = self._classifier.num_classes
        self.class_names = description.get("class_names") or [str(label) for label in range(num_classes)]
        if len(self.class_names) != num_classes:
            raise UserError(
                f"{checkpoint} has {len(self.class_names)} class names, but its model has {num_classes} classes; "
                "use another checkpoint"
            )
        self.framing = _framing(checkpoint, description.get("framing"), tuple(self._classifier.image_shape))

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

    def classify(self, images: NDArray[np.uint8]) -> list[tuple[str, float, str, float]]:
        """Return the most likely class of each image `(N, C, H, W)`, its probability, and the same of the second."""
        import torch

        with torch.inference_mode():
            probabilities = self._classifier(torch.from_numpy(images)).softmax(dim=1)
        if not probabilities.isfinite().all():
            raise UserError("the network has outputs that are NaN or infinite, so it predicts nothing; use another one")
        confidences, labels = (values.tolist() for values in probabilities.topk(2))
        return [
            (self.class_names[first], confidence, self.class_names[second], second_confidence)
            for (first, second), (confidence, second_confidence) in zip(labels, confidences, strict=True)
        ]


def _framing(checkpoint: Path, recorded: dict[str, Any] | None, shape: tuple[int, ...]) -> Framing | Resize:
    """Return how the training images were made from larger ones; if that was not recorded, as for a folder.

    Raises:
        UserError: If the checkpoint says something else than what the model takes.
    """
    try:
        if recorded is None:
            return Framing() if shape == FRAMED_SHAPE else Resize(shape[1:], "crop", shape[0])  # type: ignore[arg-type]
        found = Resize(**recorded) if "mode" in recorded else Framing(**recorded)
    except (TypeError, ValueError) as error:
        raise UserError(f"{checkpoint} has an unknown framing {recorded!r}; use another checkpoint") from error
    fits = (found.channels, *found.size) == shape if isinstance(found, Resize) else found.side <= min(shape[1:])
    if not fits or (isinstance(found, Framing) and shape != FRAMED_SHAPE):
        raise UserError(f"{checkpoint} has the framing {recorded!r}, but its model is for {shape}; use another")
    return found


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
            (framed, Prediction(str(framed.path), *result, unclear=framed.unclear or _doubt(result[1])))
            for framed, result in zip(batch, results, strict=True)
        ]


def _doubt(confidence: float) -> str:
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
