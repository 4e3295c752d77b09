import math

import pytest
import torch
from torch.nn import functional

from lightning_cnn.classifiers.metrics import StageMetrics


def batches(number: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Logits and targets of batches of 1 to 7 images."""
    generator = torch.Generator().manual_seed(number)
    sizes = [1 + i % 7 for i in range(number)]
    return [
        (torch.randn(size, 3, generator=generator), torch.randint(3, (size,), generator=generator)) for size in sizes
    ]


def counted(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> StageMetrics:
    metrics = StageMetrics(3)
    for logits, targets in pairs:
        metrics.add(functional.cross_entropy(logits, targets), logits, targets)
    metrics.flush()
    return metrics


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


def test_a_merged_state_without_more_batches_computes_without_a_warning(recwarn):
    merged = StageMetrics(3)

    merged.merge(counted(batches(3)).state())

    assert torch.equal(merged.acc.compute(), counted(batches(3)).acc.compute())
    assert not recwarn.list


@pytest.mark.parametrize("first", [0, 1, 30, 49, 50, 51, 99])
def test_a_merged_state_is_exact(first):
    pairs = batches(120)
    whole = counted(pairs)
    before, after = StageMetrics(3), StageMetrics(3)
    for logits, targets in pairs[:first]:
        before.add(functional.cross_entropy(logits, targets), logits, targets)

    after.merge(before.state())
    for logits, targets in pairs[first:]:
        after.add(functional.cross_entropy(logits, targets), logits, targets)
    after.flush()

    assert torch.equal(after.loss.compute(), whole.loss.compute())  # bit-identical
    assert torch.equal(after.acc.compute(), whole.acc.compute())


def test_reading_the_state_changes_nothing():
    pairs = batches(120)
    read = StageMetrics(3)
    for logits, targets in pairs:
        read.add(functional.cross_entropy(logits, targets), logits, targets)
        read.state()
    read.flush()

    assert torch.equal(read.loss.compute(), counted(pairs).loss.compute())
    assert torch.equal(read.acc.compute(), counted(pairs).acc.compute())


def test_states_of_several_ranks_are_merged():
    pairs = batches(10)
    merged = StageMetrics(3)

    for part in (pairs[:4], pairs[4:]):
        merged.merge(counted(part).state())

    assert merged.loss.compute().item() == pytest.approx(counted(pairs).loss.compute().item())
    assert torch.equal(merged.acc.compute(), counted(pairs).acc.compute())


def test_an_empty_batch_is_skipped():
    metrics = StageMetrics(num_classes=3)
    metrics.add(torch.tensor(math.nan), torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))  # the mean of no losses
    metrics.add(torch.tensor(2.0), torch.eye(3), torch.tensor([0, 1, 1]))
    metrics.flush()

    assert metrics.loss.compute().item() == 2
    assert metrics.acc.compute().item() == pytest.approx(2 / 3)
