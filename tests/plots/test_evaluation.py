"""Metrics of predictions, against values counted by hand and against torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from lightning_cnn.plots.evaluation import calibration, confusion, per_class


@pytest.fixture
def guesses():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 4))
    targets = rng.integers(4, size=500)
    return targets, torch.from_numpy(logits).softmax(dim=1).numpy()


def test_confusion_has_a_row_for_each_true_class():
    assert confusion([0, 0, 1, 2], [0, 1, 1, 0], 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_confusion_agrees_with_torchmetrics(guesses):
    targets, probabilities = guesses
    predicted = probabilities.argmax(axis=1)
    reference = multiclass_confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(targets), 4)

    assert confusion(targets, predicted, 4).tolist() == reference.tolist()


def test_metrics_of_a_class_by_hand():
    # Class 0: two of three images predicted correctly, two of three predictions correct.
    first, second = per_class([0] * 3 + [1] * 5, [0, 0, 1, 0, 1, 1, 1, 1], 2)

    assert (first.images, first.accuracy, first.precision, first.f1) == pytest.approx((3, 2 / 3, 2 / 3, 2 / 3))
    assert (second.images, second.accuracy, second.precision) == pytest.approx((5, 4 / 5, 4 / 5))


def test_metrics_of_each_class_agree_with_torchmetrics(guesses):
    targets, probabilities = guesses
    predicted = probabilities.argmax(axis=1)
    found = per_class(targets, predicted, 4)
    tensors = torch.from_numpy(predicted), torch.from_numpy(targets)

    assert [f.accuracy for f in found] == pytest.approx(multiclass_recall(*tensors, 4, average=None).tolist())
    assert [f.precision for f in found] == pytest.approx(multiclass_precision(*tensors, 4, average=None).tolist())
    assert [f.f1 for f in found] == pytest.approx(multiclass_f1_score(*tensors, 4, average=None).tolist())


def test_metrics_of_a_class_without_images_are_nan():
    (_, missing) = per_class([0, 0, 0], [0, 0, 0], 2)

    assert missing.images == 0
    assert np.isnan([missing.accuracy, missing.precision, missing.f1]).all()


def test_the_most_frequent_confusion_of_a_class_is_the_first_of_equals():
    one, two, three, none = per_class([0, 0, 0, 0, 1, 1, 1, 2], [2, 1, 2, 1, 3, 3, 0, 2], 4)

    assert [(row.confused_with, row.confusions) for row in (one, two, three, none)] == [(1, 2), (3, 2), (0, 0), (0, 0)]


def test_many_classes_need_no_matrix():
    found = per_class([7, 49_999], [49_998, 49_999], 50_000)

    assert (found[7].confused_with, found[49_999].accuracy) == (49_998, 1.0)


def test_calibration_by_hand():
    result = calibration([True, False, True, True], [0.6, 0.7, 1.0, 0.9], bins=2)

    assert result.images.tolist() == [0, 4]
    assert result.accuracy[1] == 0.75
    assert result.confidence[1] == pytest.approx(0.8)
    assert result.error == pytest.approx(0.05)
    assert np.isnan(result.accuracy[0])


def test_calibration_error_agrees_with_torchmetrics(guesses):
    targets, probabilities = guesses
    correct = probabilities.argmax(axis=1) == targets
    reference = multiclass_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(targets), 4, n_bins=15)

    assert calibration(correct, probabilities.max(axis=1)).error == pytest.approx(reference.item())


def test_a_confidence_of_1_is_in_the_last_bin():
    assert calibration([True, True], [1.0, 0.0], bins=5).images.tolist() == [1, 0, 0, 0, 1]
