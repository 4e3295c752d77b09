"""How predictions are shown: as a figure, and in a notebook as a table or a picture."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_cnn.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_cnn.predict.prediction import Prediction

#: Images of a figure, and rows of a table.
MAX_SHOWN = 16
#: Classes of each image in a table.
_CLASSES = 3
#: The height of images in a table, in pixels of CSS, and about the longer side of a picture.
_HEIGHT, _SIDE = 84, 224


def figure(predictions: "Sequence[Prediction]") -> "Figure":
    """Draw the originals beside what the network saw, with the predictions.

    Raises:
        ValueError: If there are no predictions.
    """
    from lightning_cnn.plots import figures as plots  # takes a third of a second
    from lightning_cnn.plots.style import channels_last

    if not predictions:
        raise ValueError("there must be at least one prediction to draw")
    captions = [
        f"{printable(Path(prediction.file).name)}\n{prediction.label}, {100 * prediction.confidence:.1f} %"
        + (f"\nunclear: {prediction.unclear}" if prediction.unclear else "")
        for prediction in predictions
    ]
    steps = [[image for image in (p.original, p.foreground) if image is not None] for p in predictions]
    return plots.seen(steps, channels_last(np.stack([p.seen for p in predictions])), captions)


def png(pixels: NDArray[np.uint8], enlarged: bool = True) -> bytes:
    """Return what a network saw, `(C, H, W)`, as a PNG file; enlarged, its pixels are squares."""
    image = _image(pixels)
    factor = max(1, _SIDE // max(image.size)) if enlarged else 1
    file = io.BytesIO()
    image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


def table(predictions: "Sequence[Prediction]") -> str:
    """Return the first predictions as a table in HTML, with their images."""
    rows = [_row(prediction) for prediction in predictions[:MAX_SHOWN]]
    more = len(predictions) - len(rows)
    note = f"<p>and {more:,} more</p>" if more > 0 else ""
    heading = "".join(f"<th>{name}</th>" for name in ("file", "image", "seen by the network", "predicted", "unclear"))
    return f"<table><thead><tr>{heading}</tr></thead><tbody>{''.join(rows)}</tbody></table>{note}"


def _row(prediction: "Prediction") -> str:
    classes = "<br>".join(f"{_text(name)} {100 * share:.1f} %" for name, share in prediction.top_k(_CLASSES))
    original = "" if prediction.original is None else _img(prediction.original.transpose(2, 0, 1), "the image")
    seen = _img(prediction.seen, "what the network saw")
    cells = (_text(prediction.file), original, seen, classes, _text(prediction.unclear))
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _text(text: str) -> str:
    """Return names of files and classes, which may come from anywhere, as HTML."""
    return escape(printable(text))


def _img(pixels: NDArray[np.uint8], alt: str) -> str:
    source = base64.b64encode(png(pixels)).decode()
    style = f"height: {_HEIGHT}px; image-rendering: pixelated"
    return f'<img src="data:image/png;base64,{source}" alt="{alt}" style="{style}">'


def _image(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return pixels `(C, H, W)` as an image; of other channels than red, green and blue only the first."""
    return Image.fromarray(np.ascontiguousarray(np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]))
