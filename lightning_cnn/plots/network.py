"""Figures of a network: filters and feature maps."""

import math
import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from lightning_cnn.plots.style import new_figure, require_images, shorten, tile

_MAX_FILTERS = 64
_MAX_MAPS = 16


def filters(weights: ArrayLike, title: str) -> Figure:
    """Draw the filters of a first layer on one colour scale with 0 in the middle; of many, the first 64.

    Args:
        weights: Weights of each filter, `(K, h, w)`.
        title: Title of the figure.

    Raises:
        ValueError: If there are no filters, or the shape does not fit.
    """
    values = require_images(weights, "weights", "(K, h, w)")
    shown = values[:_MAX_FILTERS]
    columns = min(len(shown), 8)
    rows = math.ceil(len(shown) / columns)
    if len(values) > _MAX_FILTERS:
        title = f"{title}: the first {_MAX_FILTERS} of {len(values)}"
    figure = new_figure(figsize=(max(0.7 * columns, 2.8) + 1.1, 0.7 * max(rows, 2) + 0.6), layout="compressed")
    axes = figure.subplots()
    axes.set_title(textwrap.fill(title, 10 * max(columns, 3)), parse_math=False)
    limit = float(np.abs(shown).max()) or 1.0
    last = tile(axes, shown, columns, cmap="RdBu_r", vmin=-limit, vmax=limit)
    figure.colorbar(last, ax=axes, label="weight")
    return figure


def feature_maps(image: ArrayLike, layers: Mapping[str, ArrayLike]) -> Figure:
    """Draw the feature maps of an image: a row for each layer, each row on a grey scale of its own.

    Args:
        image: Pixels in any range, `(H, W)`, or RGB 0 to 255, `(H, W, 3)`.
        layers: For the name of each layer its maps, `(K, h, w)`; the first 16 are shown.

    Raises:
        ValueError: If there are no layers, or shapes do not fit.
    """
    pixels = np.asarray(image)
    if not (pixels.ndim == 2 or pixels.shape[2:] == (3,)) or pixels.size == 0:
        raise ValueError(f"image must have the shape (H, W), got {pixels.shape}")
    if not layers:
        raise ValueError("layers must have at least one layer, got none")
    maps = {name: require_images(values, f"layer {name!r}", "(K, h, w)") for name, values in layers.items()}
    columns = min(_MAX_MAPS, max(len(values) for values in maps.values()))
    figure = new_figure(figsize=(max(0.65 * columns, 5), 2.2 + 1.05 * len(maps)), layout="constrained")
    first, *others = figure.subplots(1 + len(maps), 1, height_ratios=(1.8, *[1] * len(maps)))
    first.set_title("input", loc="left")
    tile(first, [pixels], 1, cmap="gray")
    for axes, (name, values) in zip(others, maps.items(), strict=True):
        shown = values[:_MAX_MAPS]
        _, h, w = values.shape
        axes.set_title(f"{shorten(name)}: {len(shown)} of {len(values)} maps, {h} × {w}", loc="left", parse_math=False)
        tile(axes, shown, columns, cmap="gray", vmin=shown.min(), vmax=shown.max())
    return figure
