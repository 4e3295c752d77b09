import csv
import dataclasses
import math

import numpy as np
import pytest
from runs import CLASSES, PREDICTIONS

from lightning_cnn.errors import UserError
from lightning_cnn.plots.evaluation import Predictions

HEADER = "index,true,predicted,confidence,loss\n"


def write(tmp_path, content):
    path = tmp_path / "test_predictions.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def predictions(tmp_path) -> Predictions:
    lines = [",".join(map(str, (10 + index, *row))) for index, row in enumerate(PREDICTIONS)]
    return Predictions.read_csv(write(tmp_path, HEADER + "\n".join(lines) + "\n"), CLASSES)


def with_losses(targets, predicted, losses) -> Predictions:
    columns = map(np.array, (targets, predicted, np.full(len(targets), 0.5), losses, range(len(targets))))
    return Predictions(["a", "b"], *columns)


def test_the_columns_are_read_in_the_order_of_the_classes(predictions):
    assert predictions.class_names == CLASSES
    assert predictions.index.tolist() == list(range(10, 18))
    assert predictions.targets.tolist() == [0, 0, 0, 0, 2, 2, 1, 1]
    assert predictions.predicted.tolist() == [0, 2, 2, 0, 0, 2, 1, 1]
    assert predictions.confidence.tolist() == [0.75, 0.5, 0.875, 1, 0.5, 0.75, 1, 1]
    assert predictions.losses.tolist() == [0.2877, 1.5, 2.5, 0, 4.5, 0.2877, 0, 0]


def test_names_of_files_are_kept(tmp_path, predictions):
    names = ["a.png", "=1/b.png", 'c "d", e.png', "猫.png", "f\udcff.png", "g.png", "'h.png", "i\nj.png"]
    path = tmp_path / "test_predictions.csv"

    dataclasses.replace(predictions, files=names).write_csv(path)

    assert path.read_bytes().splitlines()[0] == b"index,true,predicted,confidence,loss,file"
    assert Predictions.read_csv(path, CLASSES).files == names
    predictions.write_csv(path)
    assert Predictions.read_csv(path, CLASSES).files is None


def test_metrics_are_those_of_the_predictions(predictions):
    assert len(predictions) == 8
    assert predictions.correct.tolist() == [True, False, False, True, False, True, True, True]
    assert predictions.accuracy == 0.625
    assert predictions.mean_confidence == 6.375 / 8
    assert predictions.confusion_matrix.tolist() == [[2, 0, 2], [0, 2, 0], [1, 0, 1]]
    # Bins of a fifteenth: 0.5 ×2 (none correct), 0.75 ×2 (both), 0.875 (wrong), 1 ×3 (all).
    assert predictions.calibration.error == pytest.approx((2 * 0.5 + 2 * 0.25 + 0.875) / 8)


def test_each_class_has_its_metrics_and_its_most_frequent_confusion(predictions):
    shirt, trouser, bag = predictions.per_class

    assert (shirt.confused_with, shirt.confusions) == (2, 2)
    assert (shirt.images, shirt.accuracy) == (4, 0.5)
    assert shirt.precision == pytest.approx(2 / 3)
    assert (trouser.confusions, trouser.f1) == (0, 1.0)
    assert (bag.confused_with, bag.confusions, bag.images) == (0, 1, 2)


def test_the_worst_mistakes_are_the_wrong_predictions_with_the_highest_loss(predictions):
    assert predictions.worst_mistakes(2).tolist() == [4, 2]
    assert predictions.worst_mistakes(9).tolist() == [4, 2, 1]


def test_correct_predictions_with_a_high_loss_are_not_mistakes():
    assert with_losses([0, 1, 1], [0, 1, 0], [9.0, 0.5, 1.0]).worst_mistakes(16).tolist() == [2]


def test_mistakes_of_equal_loss_keep_their_order():
    assert with_losses([1] * 50, [0] * 50, [2.0] * 50).worst_mistakes(50).tolist() == list(range(50))


def test_written_predictions_are_read_back(tmp_path, predictions):
    predictions.write_csv(tmp_path / "again.csv")
    again = Predictions.read_csv(tmp_path / "again.csv", CLASSES)

    for name in ("index", "targets", "predicted", "confidence", "losses"):
        np.testing.assert_array_equal(getattr(again, name), getattr(predictions, name))


@pytest.mark.parametrize("name", ["=1+1", "+", "-1", "@a", "\tb", "\rc", "'=1+1", "'", 'a, "b"', "Größe\n龙"])
def test_class_names_are_not_formulas_and_are_read_back(tmp_path, name):
    path = tmp_path / "predictions.csv"
    names = [name, f"={name}", f"'{name}"]
    columns = map(np.array, ([0, 1, 2], [1, 2, 0], [0.5] * 3, [0.5] * 3, [0, 1, 2]))
    Predictions(names, *columns, files=names).write_csv(path)

    with path.open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.DictReader(file) for cell in (row["true"], row["file"])]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    again = Predictions.read_csv(path, names)
    assert (again.targets.tolist(), again.files) == ([0, 1, 2], names)


def test_predictions_of_a_diverged_network_are_read_back(tmp_path):
    columns = map(np.array, ([0, 1], [0, 0], [math.nan, 0.5], [math.nan, 0.5], [0, 1]))
    Predictions(["a", "b"], *columns).write_csv(tmp_path / "x.csv")

    again = Predictions.read_csv(tmp_path / "x.csv", ["a", "b"])

    assert np.isnan(again.confidence).tolist() == np.isnan(again.losses).tolist() == [True, False]
    assert again.calibration.images.sum() == 2


def test_a_class_without_images_keeps_its_place(tmp_path):
    path = write(tmp_path, HEADER + "0,Bag,Bag,0.5,1\n")

    (shirt, _, bag) = Predictions.read_csv(path, CLASSES).per_class

    assert shirt.images == 0 and math.isnan(shirt.accuracy)
    assert bag.accuracy == 1.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is damaged near line 0 .the columns must be index, true, predicted, confidence, loss, got"),
        (HEADER, "has no predictions; test again"),
        ("index,true,predicted\n0,a,b\n", "the columns must be .* got index, true, predicted"),
        (HEADER + "0,a,b,0.5,1\n1,a,b", "near line 3 .a row must have 5 values, got 3"),
        (HEADER + "0,a,b,0.5,1,7\n", "near line 2 .a row must have 5 values, got 6"),
        (HEADER + "0,a,b,0.5x,1\n", "could not convert string to float: '0.5x'"),
        (HEADER + "0,a,b,1.5,1\n", "the confidence must be 0 to 1, got 1.5"),
        (HEADER + "0,a,b,-0.1,1\n", "the confidence must be 0 to 1, got -0.1"),
        (HEADER + "x,a,b,0.5,1\n", "invalid literal for int"),
        (HEADER + "0,a,Hat,0.5,1\n", "near line 2 .test_metrics.json has no class 'Hat'"),
        (HEADER.encode() + b"0,\xff,b,0.5,1\n", "is damaged"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
    with pytest.raises(UserError, match=rf"test_predictions\.csv {message}|test_predictions\.csv .*{message}"):
        Predictions.read_csv(write(tmp_path, content), ["a", "b"])
