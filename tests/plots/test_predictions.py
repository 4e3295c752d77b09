import math

import numpy as np
import pytest
from runs import CLASSES, PREDICTIONS

from lightning_cnn.errors import UserError
from lightning_cnn.report.predictions import Mistake, Predictions, printable, read_predictions

HEADER = "index,true,predicted,confidence,loss\n"


def write(tmp_path, content):
    path = tmp_path / "test_predictions.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def predictions(tmp_path) -> Predictions:
    lines = [",".join(map(str, (10 + index, *row))) for index, row in enumerate(PREDICTIONS)]
    return read_predictions(write(tmp_path, HEADER + "\n".join(lines) + "\n"), CLASSES)


def test_the_columns_are_read_in_the_order_of_the_classes(predictions):
    assert predictions.class_names == CLASSES
    assert predictions.index.tolist() == list(range(10, 18))
    assert predictions.targets.tolist() == [0, 0, 0, 0, 2, 2, 1, 1]
    assert predictions.predicted.tolist() == [0, 2, 2, 0, 0, 2, 1, 1]
    assert predictions.confidence.tolist() == [0.75, 0.5, 0.875, 1, 0.5, 0.75, 1, 1]
    assert predictions.loss.tolist() == [0.2877, 1.5, 2.5, 0, 4.5, 0.2877, 0, 0]


def test_figures_are_those_of_the_file(predictions):
    assert len(predictions) == 8
    assert predictions.wrong == 3
    assert predictions.accuracy == 0.625
    assert predictions.mean_confidence == 6.375 / 8
    assert predictions.confusion.tolist() == [[2, 0, 2], [0, 2, 0], [1, 0, 1]]
    # Bins of a fifteenth: 0.5 ×2 (none right), 0.75 ×2 (both), 0.875 (wrong), 1 ×3 (all).
    assert predictions.calibration.error == pytest.approx((2 * 0.5 + 2 * 0.25 + 0.875) / 8)


def test_each_class_has_its_figures_and_its_most_frequent_confusion(predictions):
    shirt, trouser, bag = predictions.class_rows()

    assert (shirt.name, shirt.taken_for, shirt.times) == ("T-shirt/top", "Bag", 2)
    assert (shirt.figures.images, shirt.figures.accuracy) == (4, 0.5)
    assert shirt.figures.precision == pytest.approx(2 / 3)
    assert (trouser.taken_for, trouser.times, trouser.figures.f1) == ("", 0, 1.0)
    assert (bag.taken_for, bag.times, bag.figures.images) == ("T-shirt/top", 1, 2)


def test_the_highest_loss_is_the_worst_mistake(predictions):
    assert predictions.worst_mistakes(2) == [
        Mistake(14, "Bag", "T-shirt/top", 0.5, 4.5),
        Mistake(12, "T-shirt/top", "Bag", 0.875, 2.5),
    ]
    assert [mistake.index for mistake in predictions.worst_mistakes(9)] == [14, 12, 11]


def test_without_losses_the_highest_confidence_is_the_worst(tmp_path):
    old = "index,true,predicted,confidence\n0,7,2,0.5\n1,7,7,1.0\n2,2,7,0.75\n"
    predictions = read_predictions(write(tmp_path, old))

    assert predictions.class_names == ["2", "7"]
    assert predictions.loss is None
    mistakes = predictions.worst_mistakes(5)
    assert [mistake.index for mistake in mistakes] == [2, 0]
    assert all(math.isnan(mistake.loss) for mistake in mistakes)


def test_without_names_those_that_occur_are_sorted(tmp_path):
    path = write(tmp_path, HEADER + "0,b,c,0.5,1\n1,a,a,0.5,1\n")

    assert read_predictions(path).class_names == ["a", "b", "c"]


def test_a_class_without_images_keeps_its_place(tmp_path):
    path = write(tmp_path, HEADER + "0,Bag,Bag,0.5,1\n")

    (shirt, _, bag) = read_predictions(path, CLASSES).class_rows()

    assert shirt.figures.images == 0 and math.isnan(shirt.figures.accuracy)
    assert bag.figures.accuracy == 1.0


def test_names_with_commas_quotes_and_signs_that_cannot_be_seen(tmp_path):
    predictions = read_predictions(write(tmp_path, HEADER + '0,"a, ""b""",\u202eevil\x07,0.5,1\n'))

    assert predictions.class_names == ['a, "b"', "\ufffdevil\ufffd"]
    np.testing.assert_array_equal(predictions.confusion, [[0, 1], [0, 0]])


def test_letters_of_all_languages_are_printable():
    assert printable("Größe 龙 – “x”") == "Größe 龙 – “x”"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is damaged near line 0 .there is no column confidence, index, predicted, true"),
        (HEADER, "has no predictions; test again"),
        ("index,true,predicted\n0,a,b\n", "there is no column confidence"),
        (HEADER + "0,a,b,0.5,1\n1,a,b", "near line 3 .the row is not complete"),
        (HEADER + "0,a,b,0.5,1,7\n", "near line 2 .the row is not complete, or too long"),
        (HEADER + "0,a,b,0.5x,1\n", "could not convert string to float: '0.5x'"),
        (HEADER + "0,a,b,1.5,1\n", "the confidence must be 0 to 1, got 1.5"),
        (HEADER + "0,a,b,nan,1\n", "the confidence must be 0 to 1, got nan"),
        (HEADER + "x,a,b,0.5,1\n", "invalid literal for int"),
        (b"index,true,predicted,confidence\n0,\xff,b,0.5\n", "is damaged"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
    with pytest.raises(UserError, match=rf"test_predictions\.csv {message}|test_predictions\.csv .*{message}"):
        read_predictions(write(tmp_path, content))


def test_a_class_that_the_test_did_not_know_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"has the class 'Hat', which test_metrics\.json does not know"):
        read_predictions(write(tmp_path, HEADER + "0,Bag,Hat,0.5,1\n"), CLASSES)
