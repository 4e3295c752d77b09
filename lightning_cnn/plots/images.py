"""Figures of images: training samples, predictions, mistakes, and what the network sees of an image file."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lightning_cnn.plots.evaluation import Predictions
from lightning_cnn.plots.style import BLUE, TITLE_WIDTH, VERMILION, grid, require_images, shorten, tile

_CAPTION_WIDTH = 36  # characters over two images


def samples(images: ArrayLike, labels: ArrayLike, class_names: Sequence[str]) -> Figure:
    """Draw preprocessed images with their class names, all on one scale.

    Args:
        images: Pixels in any range, `(N, H, W)` or RGB `(N, H, W, 3)`.
        labels: Class of each image, `(N,)`, 0 to the number of classes − 1.
        class_names: Names in the order of the labels.

    Raises:
        ValueError: If there are no images, or lengths or shapes do not fit.
    """
    pixels, numbers = require_images(images), np.asarray(labels)
    if numbers.shape != (len(pixels),):
        raise ValueError(f"labels must have one entry for each of the {len(pixels)} images, got {numbers.shape}")
    figure, cells = grid(
        "Training images as the network sees them", [_wrap(class_names[n]) for n in numbers], margin=1.1
    )
    low, high = float(pixels.min()), float(pixels.max())
    if pixels.ndim == 4:  # colours have no scale to show; drawn from 0 to 1
        pixels = (pixels - low) / (high - low or 1)
    for axes, image in zip(cells, pixels, strict=True):
        shown = axes.imshow(image, cmap="gray", vmin=low, vmax=high)
    if pixels.ndim == 3:
        figure.colorbar(shown, ax=cells, label="pixel value", shrink=0.8)
    return figure


def predictions(images: ArrayLike, results: Predictions) -> Figure:
    """Draw the first images with true and predicted class; sign, text, frame and colour tell correct from wrong.

    Args:
        images: Values 0 to 255, `(M, H, W)` or RGB `(M, H, W, 3)`.
        results: The predictions for these images and any number of others after them.

    Raises:
        ValueError: If there are no images, or more than predictions.
    """
    pixels = require_images(images)
    if len(pixels) > len(results):
        raise ValueError(f"there must not be more images than predictions, got {len(pixels)} and {len(results)}")
    correct = results.correct[: len(pixels)]
    titles = [
        f"{'✓ correct' if hit else '✗ wrong'}\n{_true_and_predicted(results, position)}"
        for position, hit in enumerate(correct)
    ]
    figure, cells = grid(f"Test images: {correct.sum()} of {len(correct)} correct", titles)
    for axes, image, hit in zip(cells, pixels, correct, strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        color = BLUE if hit else VERMILION
        axes.title.set_color(color)
        axes.spines[:].set(color=color, linewidth=3, linestyle="solid" if hit else "dashed")
    return figure


def mistakes(images: ArrayLike, results: Predictions) -> Figure:
    """Draw the worst mistakes with true class, predicted class and confidence.

    Args:
        images: Values 0 to 255, `(M, H, W)` or RGB `(M, H, W, 3)`, of `results.worst_mistakes(M)`.
        results: The predictions.

    Raises:
        ValueError: If there are no images, or more than mistakes.
    """
    pixels = require_images(images)
    worst = results.worst_mistakes(len(pixels))
    if len(pixels) > len(worst):
        raise ValueError(f"there must not be more images than mistakes, got {len(pixels)} and {len(worst)}")
    titles = [
        f"{_true_and_predicted(results, position)}\nconfidence: {100 * results.confidence[position]:.1f} %"
        for position in worst
    ]
    figure, cells = grid("The worst mistakes, highest loss first", titles)
    for axes, image in zip(cells, pixels, strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    return figure


def seen(steps: Sequence[Sequence[ArrayLike]], seen: ArrayLike, captions: Sequence[str]) -> Figure:
    """Draw photographs or drawings, each beside what was made of it, up to what the network sees.

    Args:
        steps: For each image itself, and what was made of it: RGB pixels 0 to 255, `(h, w, 3)`, of any size.
        seen: Values 0 to 255 that the network sees, `(N, H, W)` or RGB `(N, H, W, 3)`.
        captions: Caption of each image, `(N,)`; lines that are too long are shortened in the middle.

    Raises:
        ValueError: If there are no images, or lengths or shapes do not fit.
    """
    pixels, rgb = require_images(seen, "seen"), [[np.asarray(step) for step in row] for row in steps]
    if not len(rgb) == len(captions) == len(pixels):
        raise ValueError(
            f"there must be steps and a caption for each of the {len(pixels)} images seen, "
            f"got {len(rgb)} and {len(captions)}"
        )
    for step in (step for row in rgb for step in row):
        if step.ndim != 3 or step.shape[2] != 3 or step.size == 0:
            raise ValueError(f"steps must have the shape (h, w, 3), got {step.shape}")
    width = 1 + max(len(row) for row in rgb)
    titles = ["\n".join(shorten(line, _CAPTION_WIDTH) for line in caption.splitlines()) for caption in captions]
    figure, cells = grid("Each image, and what the network sees of it", titles, images_per_cell=width)
    for axes, row, image in zip(cells, rgb, pixels, strict=True):
        axes.set_facecolor("0.93")  # so that white images have an edge
        tile(axes, [*row, image], width, cmap="gray", vmin=0, vmax=255)
    return figure


def _true_and_predicted(results: Predictions, position: int) -> str:
    """Two lines of a title."""
    true, guess = (results.class_names[labels[position]] for labels in (results.targets, results.predicted))
    return f"{_wrap(f'true: {true}')}\n{_wrap(f'predicted: {guess}')}"


def _wrap(text: str) -> str:
    return textwrap.fill(text, TITLE_WIDTH)
