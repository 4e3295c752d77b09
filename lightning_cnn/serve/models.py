"""The models of a server, and the answers to images."""

import base64
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from lightning_cnn.data.image_files import decode
from lightning_cnn.data.pillow_images import ImageFileError
from lightning_cnn.predict import prediction as predictions
from lightning_cnn.predict import views
from lightning_cnn.predict.framing import Framed
from lightning_cnn.predict.model import open_model
from lightning_cnn.predict.pipeline import Predictor
from lightning_cnn.serve.messages import ModelInfo, Prediction, Seen, Share
from lightning_cnn.serve.settings import Settings


class ServedModel:
    """A model with its name.

    Args:
        name: What clients call it.
        predictor: Frames and classifies images.
        max_pixels: The most pixels of an image.
    """

    def __init__(self, name: str, predictor: Predictor, max_pixels: int) -> None:
        self.name = name
        self._predictor = predictor
        self._max_pixels = max_pixels

    def info(self) -> ModelInfo:
        """Return what clients are told about it."""
        predictor = self._predictor
        return ModelInfo(
            name=self.name,
            class_names=predictor.class_names,
            image_shape=predictor.image_shape,
            framing=asdict(predictor.framing),
        )

    def frame(self, content: bytes) -> Framed:
        """Return the input of the network for the content of an image file.

        Raises:
            ImageFileError: If it cannot be read, or there is nothing in it.
        """
        if not content:
            raise ImageFileError("empty; send the whole file")
        return self._predictor.frame(decode(content, self._predictor.fill, self._max_pixels))

    def predict(self, frames: list[Framed], top_k: int, seen: bool) -> list[Prediction]:
        """Return the predictions for framed images."""
        probabilities = self._predictor.probabilities(np.stack([framed.pixels for framed in frames]))
        return [self._prediction(*pair, top_k, seen) for pair in zip(frames, probabilities, strict=True)]

    def _prediction(self, framed: Framed, row: NDArray[np.float32], top_k: int, seen: bool) -> Prediction:
        found = predictions.Prediction(
            "",
            self._predictor.class_names,
            row,
            framed.pixels,
            framed.unclear,
            min_confidence=self._predictor.min_confidence,
        )
        # The sum of a softmax in float32 may be 1 + 1e-7, and so may be its largest term.
        shares = [Share(label=label, probability=min(share, 1.0)) for label, share in found.top_k(top_k)]
        return Prediction(
            label=shares[0].label,
            confidence=shares[0].probability,
            top_k=shares,
            unclear=found.unclear,
            seen=_seen(framed.pixels) if seen else None,
        )


def open_models(settings: Settings) -> dict[str, ServedModel]:
    """Open the models of a server.

    Raises:
        UserError: If a file cannot be used.
    """
    return {
        name: ServedModel(name, Predictor(open_model(path, settings.class_path)), settings.limits.max_pixels)
        for name, path in settings.files.items()
    }


def _seen(pixels: NDArray[np.uint8]) -> Seen:
    _, height, width = pixels.shape
    return Seen(width=width, height=height, png=base64.b64encode(views.png(pixels, enlarged=False)).decode())
