"""A trained classifier in Python: `lightning_cnn.load` opens one, and it classifies whatever images it is given."""

import os
import warnings
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, get_args, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_cnn.data.pillow_images import ImageFileError
from lightning_cnn.errors import UserError, did_you_mean
from lightning_cnn.predict.images import Images, as_array, is_one, named_images, to_bytes
from lightning_cnn.predict.model import Model, open_model
from lightning_cnn.predict.pipeline import Predictor, predict_images
from lightning_cnn.predict.prediction import Prediction, PredictionList
from lightning_cnn.predict.views import MAX_SHOWN
from lightning_cnn.run import DEFAULT_ROOT, find_runs, resolve_checkpoint
from lightning_cnn.startup import unfrozen
from lightning_cnn.text import printable, shorten_words

#: What happens to images that cannot be read, as for a folder of training images.
OnError = Literal["fail", "skip"]
#: Images that a network is given at once.
_BATCH = 256


class _Options(TypedDict, total=False):
    """The options of `TrainedClassifier.predict`."""

    on_error: OnError
    invert: bool | None
    crop: bool | None
    batch_size: int


def load(checkpoint: str | os.PathLike[str] = "best", *, model: str | None = None) -> "TrainedClassifier":
    """Load a trained classifier.

    Args:
        checkpoint: A checkpoint or another file with a model, a run folder (for its best checkpoint), `best`, `last` or
            `previous` of the newest run in `logs`, or weights of this package, such as `mnist`.
        model: Your own network or classifier, such as `wide_mlp.WideMLP`, if the file is to be trusted to name it; its
            module is imported.

    Raises:
        UserError: If there is no such file, or it cannot be used.
    """
    path = resolve_checkpoint(os.fspath(checkpoint), find_runs(DEFAULT_ROOT), folder_means="best")
    with unfrozen():
        return TrainedClassifier(open_model(path, model), path)


class TrainedClassifier:
    """A classifier with its weights, which predicts the classes of images.

    Args:
        model: The model, from `predict.model.open_model`.
        checkpoint: Its file, which messages name.

    Attributes:
        checkpoint: The file of the model.
        class_names: Names of the K classes, in the order of the probabilities.
        image_shape: Channels, height and width of the images that the network sees.

    Example:
        >>> from lightning_cnn.data.facts import Framing
        >>> class Brightness:
        ...     class_names, image_shape, framing, label_smoothing = ["dark", "light"], (1, 28, 28), Framing(), 0.0
        ...     def probabilities(self, images):
        ...         light = images.mean(axis=(1, 2, 3), dtype=np.float32) / 255
        ...         return np.stack([1 - light, light], axis=1)
        >>> classifier = TrainedClassifier(Brightness(), Path("brightness.ckpt"))
        >>> classifier
        TrainedClassifier('brightness.ckpt', 2 classes, image_shape=(1, 28, 28))
        >>> classifier(np.ones((3, 28, 28))).tolist()
        [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
        >>> picture = Image.new("L", (90, 60), "white")
        >>> picture.paste("black", (40, 10, 45, 50))
        >>> classifier.predict(picture)
        Prediction('dark', 94.9 %, file='[0]', unclear='low confidence')
    """

    def __init__(self, model: Model, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self._predictor = Predictor(model)
        self.class_names = model.class_names
        self.image_shape = model.image_shape

    def __repr__(self) -> str:
        return (
            f"TrainedClassifier({str(self.checkpoint)!r}, {len(self.class_names)} classes, "
            f"image_shape={self.image_shape})"
        )

    def __call__(self, images: Any) -> NDArray[np.float32]:
        """Return the probability of each class, `(N, K)`, for images like those of the dataset, which are not framed.

        Args:
            images: An array or a tensor `(N, C, H, W)`, `(C, H, W)` or with the channels last; of grey images also
                `(N, H, W)` or `(H, W)`. C, H and W are those of `image_shape`; values are uint8, 0 to 255, or floating
                point, 0 to 1, which are rounded to the 256 levels of uint8.

        Raises:
            UserError: If they have another shape or other values, or if the network returns NaN or infinity.
        """
        array = as_array(images)
        batch = None if array is None else _in_shape(array, self.image_shape)
        if batch is None:
            given = type(images).__name__ if array is None else f"the shape {array.shape}"
            raise UserError(
                f"a classifier is called with an array or a tensor of images of the shape {self.image_shape}, got "
                f"{given}; use `predict` for files, and for pictures of any size"
            )
        pixels = np.ascontiguousarray(to_bytes(batch))
        parts = [self._predictor.probabilities(pixels[i : i + _BATCH]) for i in range(0, len(pixels), _BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.class_names)), np.float32)

    @overload
    def predict(self, images: Image.Image, **options: Unpack[_Options]) -> Prediction: ...

    @overload
    def predict(self, images: list[Any] | tuple[Any, ...], **options: Unpack[_Options]) -> PredictionList: ...

    @overload
    def predict(self, images: Images, **options: Unpack[_Options]) -> Any: ...

    def predict(
        self,
        images: Images,
        *,
        on_error: OnError = "fail",
        invert: bool | None = None,
        crop: bool | None = None,
        batch_size: int = _BATCH,
    ) -> Prediction | PredictionList:
        """Predict the classes of pictures of any size and colour, which are made similar to the training images.

        Args:
            images: A file; a folder, for its images and those of its subfolders; a pattern, in which `**` stands for
                subfolders; an image of Pillow; an array or a tensor, `(H, W)`, `(H, W, C)`, `(C, H, W)`, or a batch of
                them, of uint8, 0 to 255, or floating point, 0 to 1; or a sequence of these. An array is framed like a
                file with the same pixels.
            on_error: Whether the first image that cannot be read raises an error (`fail`), or those of several are left
                out with a warning (`skip`).
            invert: Whether the foreground is dark on light; None to detect it.
            crop: Whether to crop to the foreground and place it as in the training images; None to do so for all images
                in which it is not placed so already. As `invert`, only for models of MNIST, Fashion-MNIST and the like.
            batch_size: Images per batch, at least 1.

        Returns:
            A prediction for a single image, a list of them for all else; a file with several pages has one for each.

        Raises:
            UserError: If an image cannot be read, something is not an image, or an argument is wrong.
        """
        self._require_valid(on_error, invert, crop, batch_size)
        single = is_one(images, self.image_shape)
        skipped: list[str] = []

        def report(name: str, error: ImageFileError) -> None:
            message = f"{shorten_words(printable(name))}: {error}"
            if single or on_error == "fail":
                raise UserError(message) from error
            skipped.append(message)

        predictor = self._predictor
        named = named_images(images, self.image_shape, predictor.fill, report)
        batches = predict_images(predictor, named, report, invert, crop, batch_size, num_thumbnails=MAX_SHOWN)
        predictions = PredictionList(prediction for batch in batches for prediction in batch)
        for message in skipped:
            warnings.warn(f"left out: {message}", stacklevel=2)
        return predictions[0] if single and len(predictions) == 1 else predictions

    def _require_valid(self, on_error: str, invert: bool | None, crop: bool | None, batch_size: int) -> None:
        """Refuse wrong arguments of `predict`.

        Raises:
            UserError: If there is one.
        """
        choices = get_args(OnError)
        if on_error not in choices:
            raise UserError(f"on_error must be fail or skip, got {on_error!r}{did_you_mean(str(on_error), choices)}")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise UserError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
        for name, value in (("invert", invert), ("crop", crop)):
            if value is not None and not isinstance(value, bool):
                raise UserError(f"{name} must be True, False or None, got {value!r}")
            if value is not None and not self._predictor.frames_foreground:
                raise UserError(
                    f"{name} is for images that are framed by their foreground, as MNIST's; {self.checkpoint} was "
                    "trained on whole images, so leave it out"
                )


def _in_shape(array: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[Any] | None:
    """Return images of exactly this shape as a batch `(N, C, H, W)`; None if they have another one."""
    channels, height, width = shape
    if array.shape[-3:] == shape and array.ndim in (3, 4):
        return array.reshape(-1, *shape)
    if array.shape[-3:] == (height, width, channels) and array.ndim in (3, 4):
        return np.moveaxis(array.reshape(-1, height, width, channels), -1, 1)
    if channels == 1 and array.shape[-2:] == (height, width) and array.ndim in (2, 3):
        return array.reshape(-1, *shape)
    return None
