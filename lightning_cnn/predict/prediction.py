"""What a model predicts for an image: one object from the pipeline to tables, files, figures, Python and notebooks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightning_cnn.data.facts import Framing
from lightning_cnn.data.resize import Resize
from lightning_cnn.predict import views

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The confidence below which a prediction is called unclear, if the dataset has none of its own.
MIN_CONFIDENCE = 0.8
#: The same for images framed as MNIST's, and as Fashion-MNIST's: in pictures of validation images, four of five wrong
#: answers have less (`scripts/pictures_accuracy RUN --fashion RUN --part validation`).
_MIN_DIGIT, _MIN_CLOTHES = 0.97, 0.85


def min_confidence(framing: Framing | Resize, label_smoothing: float = 0.0, num_classes: int = 10) -> float:
    """Return the confidence below which a prediction is called unclear.

    A network that was trained with label smoothing learns smoothed probabilities: it gives no class more than
    1 - s + s / K, however sure it is. The limit is smoothed in the same way.

    Args:
        framing: How the training images were made from larger ones.
        label_smoothing: The label smoothing s of the training, 0 to 1.
        num_classes: Number of classes K.

    Example:
        >>> digits = Framing(by_mass=True)
        >>> min_confidence(digits), round(min_confidence(digits, label_smoothing=0.1), 3)
        (0.97, 0.883)
    """
    limit = MIN_CONFIDENCE
    if isinstance(framing, Framing):
        limit = _MIN_DIGIT if framing.by_mass else _MIN_CLOTHES
    return (1 - label_smoothing) * limit + label_smoothing / num_classes


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The prediction for an image.

    Args:
        file: The file; of the second of several pages `file[2]`; of images that are not files their position, `[0]`.
        class_names: Names of the K classes, in the order of the probabilities.
        probabilities: Probability of each class, `(K,)`, 0 to 1.
        seen: What the network saw of the image, `(C, H, W)`, 0 to 255.
        ambiguity: Why what was cropped to may not be what was meant; empty if it is clear.
        original: Thumbnail of the image, RGB, `(h, w, 3)`; None if it is not needed.
        foreground: What was taken for foreground, RGB, `(h, w, 3)`; None if it is not needed or nothing was cropped.
        min_confidence: The confidence below which the prediction is unclear.

    Example:
        >>> seen = np.zeros((1, 28, 28), np.uint8)
        >>> prediction = Prediction("pet.png", ["cat", "dog", "fox"], np.array([0.25, 0.625, 0.125]), seen)
        >>> prediction
        Prediction('dog', 62.5 %, file='pet.png', unclear='low confidence')
        >>> prediction.label, prediction.confidence, prediction.top_k(2)
        ('dog', 0.625, [('dog', 0.625), ('cat', 0.25)])
    """

    file: str
    class_names: Sequence[str]
    probabilities: NDArray[np.floating]
    seen: NDArray[np.uint8]
    ambiguity: str = ""
    original: NDArray[np.uint8] | None = None
    foreground: NDArray[np.uint8] | None = None
    min_confidence: float = MIN_CONFIDENCE

    @property
    def label(self) -> str:
        """The name of the most likely class, the first of equals."""
        return self.class_names[int(np.argmax(self.probabilities))]

    @property
    def confidence(self) -> float:
        """The probability of the most likely class, 0 to 1."""
        return float(np.max(self.probabilities))

    @property
    def unclear(self) -> str:
        """Why the prediction may be wrong: what is in the picture, or a low confidence; empty if it is clear."""
        return self.ambiguity or ("low confidence" if self.confidence < self.min_confidence else "")

    def top_k(self, k: int = 5) -> list[tuple[str, float]]:
        """Return the k most likely classes, or all if there are fewer, with their probabilities, the highest first.

        Raises:
            ValueError: If k is below 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        order = np.argsort(-self.probabilities, kind="stable")[:k].tolist()
        return [(self.class_names[index], float(self.probabilities[index])) for index in order]

    def __repr__(self) -> str:
        unclear = f", unclear={self.unclear!r}" if self.unclear else ""
        return f"Prediction({self.label!r}, {100 * self.confidence:.1f} %, file={self.file!r}{unclear})"

    def _repr_png_(self) -> bytes:
        """Return what the network saw, for a notebook."""
        return views.png(self.seen)

    def _repr_html_(self) -> str:
        """Return the image, what the network saw, and the most likely classes, for a notebook."""
        return views.table([self])


class PredictionList(list[Prediction]):
    """The predictions for several images, in their order; a list that notebooks show as a table.

    Example:
        >>> seen = np.zeros((1, 28, 28), np.uint8)
        >>> predictions = PredictionList([Prediction("[0]", ["cat", "dog"], np.array([0.125, 0.875]), seen)])
        >>> predictions.labels, predictions.probabilities.shape
        (['dog'], (1, 2))
    """

    def __init__(self, predictions: Iterable[Prediction] = ()) -> None:
        super().__init__(predictions)

    @property
    def labels(self) -> list[str]:
        """The names of the most likely classes."""
        return [prediction.label for prediction in self]

    @property
    def probabilities(self) -> NDArray[np.floating]:
        """The probability of each class for each image, `(N, K)`; `(0, 0)` if there are no images."""
        return np.stack([prediction.probabilities for prediction in self]) if self else np.zeros((0, 0), np.float32)

    def plot(self) -> "Figure":
        """Return a figure of the first images beside what the network saw, with their predictions.

        Raises:
            ValueError: If there are no images.
        """
        return views.figure(self[: views.MAX_SHOWN])

    def _repr_html_(self) -> str:
        """Return a table of the first images, for a notebook."""
        return views.table(self)
