import math

import pytest
import torch
from stage_metrics import batches, counted, over_all, values, with_others
from torch.nn import functional
from torchmetrics.classification import (
    BinaryF1Score,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
)

from lightning_cnn.classifiers.metrics import StageMetrics
from lightning_cnn.errors import UserError


@pytest.mark.parametrize("number", [1, 2, 49, 50, 51, 100, 120])  # an update takes 50 batches
def test_loss_and_accuracy_equal_a_hand_count(number):
    pairs = batches(number)

    metrics = counted(pairs)

    losses, right = [], 0
    for logits, targets in pairs:
        for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
            losses.append(math.log(sum(map(math.exp, row))) - row[target])
            right += row.index(max(row)) == target
    assert metrics.loss.compute().item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert metrics.acc.compute().item() == pytest.approx(right / len(losses))


def test_literal_mean_over_unequal_batches():
    metrics = StageMetrics(2)
    logits = torch.tensor([[1.0, 0.0]])

    metrics.add(torch.tensor(4.0), logits, torch.tensor([0]))
    metrics.add(torch.tensor(1.0), logits.expand(3, 2), torch.tensor([0, 1, 1]))
    metrics.flush()

    assert metrics.loss.compute().item() == (4 + 1 + 1 + 1) / 4
    assert metrics.acc.compute().item() == 2 / 4


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_loss_shows_in_the_mean(value):
    metrics = counted(batches(3))

    metrics.add(torch.tensor(value), torch.zeros(2, 3), torch.tensor([0, 1]))
    metrics.flush()

    assert not metrics.loss.compute().isfinite()


def test_flush_without_pending_batches_changes_nothing():
    metrics = StageMetrics(3)
    metrics.flush()
    pairs = batches(50)  # exactly as many as an update takes
    for logits, targets in pairs:
        metrics.add(functional.cross_entropy(logits, targets), logits, targets)
    before = metrics.loss.compute(), metrics.acc.compute()

    metrics.flush()
    metrics.flush()

    assert (metrics.loss.compute(), metrics.acc.compute()) == before


def test_no_graph_is_kept():
    logits = torch.randn(2, 3, requires_grad=True)
    targets = torch.tensor([0, 1])
    metrics = StageMetrics(3)

    metrics.add(functional.cross_entropy(logits, targets), logits, targets)
    metrics.flush()

    assert not metrics.loss.compute().requires_grad
    assert not metrics.acc.compute().requires_grad


def test_metrics_are_not_in_the_state_dict():
    assert counted(batches(3)).state_dict() == {}


# State


def test_reset_discards_pending_batches():
    metrics = counted(batches(60))
    metrics.add(torch.tensor(2.0), torch.eye(3), torch.arange(3))

    metrics.reset()
    metrics.add(torch.tensor(4.0), torch.eye(3), torch.tensor([0, 0, 0]))
    metrics.flush()

    assert metrics.loss.compute().item() == 4
    assert metrics.acc.compute().item() == pytest.approx(1 / 3)


def test_reading_the_state_changes_nothing():
    pairs = batches(120)
    read = StageMetrics(3)
    for logits, targets in pairs:
        read.add(functional.cross_entropy(logits, targets), logits, targets)
        read.state()
    read.flush()

    assert torch.equal(read.loss.compute(), counted(pairs).loss.compute())
    assert torch.equal(read.acc.compute(), counted(pairs).acc.compute())


def test_an_empty_batch_is_skipped():
    metrics = StageMetrics(num_classes=3)
    metrics.add(torch.tensor(math.nan), torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))  # the mean of no losses
    metrics.add(torch.tensor(2.0), torch.eye(3), torch.tensor([0, 1, 1]))
    metrics.flush()

    assert metrics.loss.compute().item() == 2
    assert metrics.acc.compute().item() == pytest.approx(2 / 3)


# Other metrics


def test_other_metrics_are_those_over_all_images_and_not_means_over_batches():
    pairs = batches(60)

    assert values(with_others(pairs)) == pytest.approx(over_all(pairs))
    means = sum(MulticlassF1Score(3)(*pair).item() for pair in pairs) / 60
    assert abs(means - over_all(pairs)["f1"]) > 1e-3


@pytest.mark.parametrize("name", ["loss", "acc", "a/b", "", "1st"])
def test_a_metric_with_an_invalid_name_is_refused(name):
    with pytest.raises(ValueError, match="metrics must have names of letters, digits and _, not loss or acc, got"):
        StageMetrics(3, {name: MulticlassF1Score})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (MulticlassConfusionMatrix, r"must be one number, but MulticlassConfusionMatrix has the shape \(3, 3\)"),
        (
            lambda _: MulticlassF1Score(3, average="none"),
            "must be one number, but MulticlassF1Score has the shape",
        ),
        (BinaryF1Score, "but raises ValueError: Expected argument `threshold`"),
        (lambda _: 5, "but raises AttributeError: 'int' object has no attribute 'update'"),
    ],
)
def test_a_metric_that_cannot_be_logged_is_refused(build, message):
    with pytest.raises(UserError, match=f"^--model.metrics.x: .*{message}"):
        StageMetrics(3, {"x": build})


def test_logits_from_0_to_1_are_not_taken_for_probabilities():
    logits, targets = torch.tensor([[0.9, 0.1, 0.2], [0.3, 0.2, 0.8]]), torch.tensor([0, 2])

    metrics = StageMetrics(3, {"calibration": MulticlassCalibrationError})
    metrics.add(torch.tensor(1.0), logits, targets)
    metrics.flush()

    expected = MulticlassCalibrationError(3)(logits.softmax(dim=1), targets)
    assert metrics.others["calibration"].compute().item() == pytest.approx(expected.item(), rel=1e-6)
    assert MulticlassCalibrationError(3)(logits, targets).item() != pytest.approx(expected.item(), rel=0.1)


def test_a_rank_without_images_takes_part_in_gathering_lists():
    metrics = StageMetrics(3, {"auroc": MulticlassAUROC, "f1": MulticlassF1Score})

    metrics.fill_empty_lists(3)

    assert [part.shape for part in metrics.others["auroc"].preds] == [(0, 3)]
    assert [part.shape for part in metrics.others["auroc"].target] == [(0,)]
    metrics.add(torch.tensor(0.5), torch.eye(3), torch.arange(3))
    metrics.flush()
    assert [metric.compute().item() for metric in metrics.others.values()] == [1.0, 1.0]
