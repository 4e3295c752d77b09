import io
import re

import numpy as np
import pytest
from PIL import Image

from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.data.resize import Resize
from lightning_cnn.predict.prediction import MIN_CONFIDENCE, Prediction, PredictionList, min_confidence

NAMES = ["cat", "dog", "<fox>"]
SEEN = np.arange(28 * 28, dtype=np.uint8).reshape(1, 28, 28)


def prediction(*probabilities: float, file: str = "a.png", **options) -> Prediction:
    return Prediction(file, NAMES, np.array(probabilities, np.float32), SEEN, **options)


def test_classes_are_sorted_by_probability_and_the_first_of_equals_comes_first():
    found = prediction(0.25, 0.375, 0.375)

    assert (found.label, found.confidence) == ("dog", 0.375)
    assert found.top_k(2) == [("dog", 0.375), ("<fox>", 0.375)]
    assert found.top_k(9) == [("dog", 0.375), ("<fox>", 0.375), ("cat", 0.25)]


def test_k_is_at_least_1():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        prediction(1, 0, 0).top_k(0)


def test_a_low_confidence_is_unclear_and_an_ambiguity_comes_before_it():
    assert prediction(MIN_CONFIDENCE - 0.01, 0.1, 0.1).unclear == "low confidence"
    assert prediction(MIN_CONFIDENCE + 0.01, 0.1, 0.1).unclear == ""
    assert prediction(0.9, 0.1, 0, ambiguity="several marks").unclear == "several marks"
    assert prediction(0.9, 0.1, 0, min_confidence=0.95).unclear == "low confidence"
    assert prediction(0.5, 0.5, 0, ambiguity="several marks").unclear == "several marks"


def test_digits_need_more_confidence_than_clothes():
    digits, clothes = (min_confidence(facts.framing) for facts in (MNIST, FASHION_MNIST))

    assert digits > clothes > MIN_CONFIDENCE == min_confidence(Resize((28, 28), "crop", 1))


def test_label_smoothing_lowers_the_limit_as_it_lowers_the_confidence_of_a_network_that_is_sure():
    limit = min_confidence(MNIST.framing)

    assert min_confidence(MNIST.framing, 0.1, 10) == pytest.approx(0.9 * limit + 0.01)
    assert min_confidence(MNIST.framing, 0.1, 10) < 1 - 0.1 + 0.1 / 10 < limit  # what a network learns to be sure
    assert min_confidence(Resize((28, 28), "crop", 1), 1.0, 4) == 0.25  # it learns nothing else


def test_the_repr_is_short():
    assert repr(prediction(0, 1, 0)) == "Prediction('dog', 100.0 %, file='a.png')"
    assert repr(prediction(0, 1, 0, ambiguity="faint ink")).endswith(", unclear='faint ink')")


def test_the_picture_shows_each_pixel_that_the_network_saw():
    image = Image.open(io.BytesIO(prediction(1, 0, 0)._repr_png_()))

    assert image.size == (224, 224)
    assert np.array_equal(np.asarray(image)[4::8, 4::8], SEEN[0])


def test_a_colour_picture_is_shown_in_colour():
    seen = np.zeros((3, 32, 32), np.uint8)
    seen[0] = 255
    found = Prediction("a.png", NAMES, np.array([1, 0, 0]), seen)

    assert Image.open(io.BytesIO(found._repr_png_())).getpixel((9, 9)) == (255, 0, 0)


def test_html_has_images_and_escaped_names():
    original = np.zeros((40, 60, 3), np.uint8)
    found = prediction(0.125, 0.25, 0.625, file="<script>.png", original=original)

    markup = found._repr_html_()

    assert markup.count("<img ") == 2 and markup.count("data:image/png;base64,") == 2
    assert "&lt;script&gt;.png" in markup and "<script>" not in markup
    assert "&lt;fox&gt; 62.5 %<br>dog 25.0 %<br>cat 12.5 %" in markup
    assert "low confidence" in markup
    assert set(re.findall(r"</?(\w+)", markup)) == {"table", "thead", "tbody", "tr", "th", "td", "img", "br"}


def test_a_list_is_a_table_of_the_first_images():
    predictions = PredictionList(prediction(1, 0, 0, file=f"{n}.png") for n in range(20))

    markup = predictions._repr_html_()

    assert markup.count("<tr>") == 1 + 16
    assert "<td>15.png</td>" in markup and "16.png" not in markup
    assert markup.endswith("<p>and 4 more</p>")


def test_a_list_has_labels_and_probabilities():
    predictions = PredictionList([prediction(1, 0, 0), prediction(0, 0, 1)])

    assert predictions.labels == ["cat", "<fox>"]
    assert predictions.probabilities.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert PredictionList().labels == [] and PredictionList().probabilities.shape == (0, 0)


def test_the_figure_shows_the_first_images():
    predictions = PredictionList(prediction(1, 0, 0, file=f"in/{n}.png") for n in range(20))

    titles = [axes.get_title() for axes in predictions.plot().axes]

    assert len(titles) == 16 and titles[0] == "0.png\ncat, 100.0 %"
    with pytest.raises(ValueError, match="at least one prediction"):
        PredictionList().plot()
