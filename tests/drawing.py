"""Test images, class names that are hard to lay out, a check of the texts in a figure, and no figures at all."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from lightning_cnn.plots import figures

CLASSES = ("T-shirt/top", "Trouser", "Ankle boot")
LONG_CLASSES = ("Donaudampfschifffahrtsgesellschaftskapitän", "a name of several words that is long", "$x$ and $y$")


def images(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, size=(n, 28, 28), dtype=np.uint8)


def draw_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace every figure by an empty one: to draw takes most of the time of a command on few images."""
    for name in figures.__all__:
        monkeypatch.setattr(figures, name, lambda *_, **__: Figure(figsize=(0.1, 0.1)))


def assert_no_text_is_clipped_or_overlaps(figure: Figure) -> None:
    FigureCanvasAgg(figure).draw()
    ticks = {label for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())}
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text() and text not in ticks]
    assert texts
    boxes = [text.get_window_extent() for text in texts]
    for i, (text, box) in enumerate(zip(texts, boxes, strict=True)):
        assert "$" not in text.get_text() or not text.get_parse_math()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
        for other, other_box in zip(texts[:i], boxes, strict=False):
            if text.get_rotation() == other.get_rotation() == 45:
                assert_slanted_lines_are_apart(text, other)
            else:
                assert not box.overlaps(other_box), (text, other)


def assert_slanted_lines_are_apart(text: Text, other: Text) -> None:
    (x, y), (other_x, other_y) = (t.get_transform().transform(t.get_position()) for t in (text, other))
    assert y == other_y
    text.set_rotation(0)
    height = text.get_window_extent().height
    text.set_rotation(45)
    assert abs(x - other_x) * np.sin(np.pi / 4) > height
