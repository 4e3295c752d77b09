"""How digits are drawn, and a classifier that reads them."""

from math import cos, pi, sin
from pathlib import Path

from lightning_cnn import weights

#: Weights that ship with the package.
WEIGHTS: Path = weights.file_of("mnist/tiny")

Stroke = list[tuple[float, float]]


def _arc(x: float, y: float, width: float, height: float, start: float, end: float) -> Stroke:
    """Points of an ellipse, in turns clockwise from its right end."""
    turns = (start + (end - start) * step / 24 for step in range(25))
    return [(x + width * cos(2 * pi * turn), y + height * sin(2 * pi * turn)) for turn in turns]


#: The strokes of each digit, in units of the side of the drawing area.
STROKES: dict[str, list[Stroke]] = {
    "0": [_arc(0.5, 0.5, 0.18, 0.28, -0.25, 0.75)],
    "1": [[(0.52, 0.2), (0.48, 0.8)]],
    "2": [[*_arc(0.5, 0.36, 0.18, 0.16, -0.5, 0.1), (0.3, 0.78), (0.72, 0.78)]],
    "3": [[*_arc(0.47, 0.35, 0.18, 0.14, -0.45, 0.25), *_arc(0.47, 0.64, 0.2, 0.15, -0.25, 0.42)]],
    "4": [[(0.38, 0.2), (0.3, 0.52), (0.7, 0.52)], [(0.66, 0.2), (0.62, 0.82)]],
    "5": [[(0.68, 0.22), (0.38, 0.22), (0.36, 0.48), *_arc(0.48, 0.62, 0.18, 0.17, -0.3, 0.4)]],
    "6": [[(0.6, 0.18), (0.42, 0.42), *_arc(0.5, 0.64, 0.15, 0.16, -0.5, 0.5)]],
    "7": [[(0.28, 0.24), (0.72, 0.24), (0.6, 0.48), (0.46, 0.8)]],
    "8": [[*_arc(0.5, 0.35, 0.14, 0.14, 0.25, -0.75), *_arc(0.5, 0.64, 0.17, 0.15, -0.25, 0.75)]],
    "9": [[*_arc(0.5, 0.36, 0.16, 0.15, 0, -1), (0.64, 0.5), (0.58, 0.82)]],
}
