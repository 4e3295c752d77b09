import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from stage_metrics import OTHERS, batches, counted, over_all, values, with_others
from torch.nn import functional
from torchmetrics import Metric

from lightning_cnn.classifiers import MLPClassifier
from lightning_cnn.classifiers.metrics import StageMetrics
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.errors import UserError
from lightning_cnn.training import rank_state

CPU = torch.device("cpu")


def random_numbers() -> list[float]:
    return [random.random(), np.random.random(), torch.rand(()).item()]


@pytest.fixture
def fitted(trainer, tiny_data):
    """A trainer in the middle of an epoch: its model has training metrics."""

    def make():
        run = trainer(ours=True)
        run.fit(MLPClassifier(), datamodule=MNISTDataModule(val_size=50))
        run.lightning_module.train_metrics.add(torch.tensor(2.5), torch.eye(10), torch.arange(10))
        return run

    return make


def training_metrics(run) -> tuple[float, float, float]:
    metrics = run.lightning_module.train_metrics
    metrics.flush()
    return metrics.loss.weight.item(), metrics.loss.compute().item(), metrics.acc.compute().item()


def test_random_states_are_restored():
    states = rank_state.random_states(CPU)
    first = random_numbers()
    second = random_numbers()

    rank_state.set_random_states(states, CPU)

    assert random_numbers() == first != second


def test_random_states_can_be_loaded_with_weights_only(tmp_path):
    states = rank_state.random_states(CPU)
    torch.save(states, tmp_path / "states")
    first = random_numbers()

    rank_state.set_random_states(torch.load(tmp_path / "states", weights_only=True), CPU)

    assert random_numbers() == first


def test_the_state_of_a_rank_is_restored(fitted):
    run = fitted()
    states = rank_state.gather(run)
    first, then = random_numbers(), training_metrics(run)
    again = fitted()
    again.lightning_module.train_metrics.reset()

    rank_state.restore(again, states)

    assert random_numbers() == first
    assert training_metrics(again) == then


@pytest.mark.parametrize(("rank", "images"), [(0, 30.0), (1, 0.0)])
def test_with_another_number_of_ranks_rank_zero_gets_all_metrics(fitted, monkeypatch, rank, images):
    run = fitted()
    states = rank_state.gather(run) * 3
    metrics = run.lightning_module.train_metrics
    metrics.reset()
    monkeypatch.setattr(type(run), "world_size", 2)
    monkeypatch.setattr(type(run), "global_rank", rank)

    rank_state.restore(run, states)
    metrics.flush()

    assert metrics.loss.weight.item() == images


# Synchronisation


@pytest.fixture
def rank_one(monkeypatch):
    """The trainer of rank 1 of two ranks with these first steps; rank 0 has chosen a precision."""

    def make(steps=(None, None), precision="32-true"):
        def all_gather_object(gathered, mine):
            gathered[:] = steps

        monkeypatch.setattr(torch.distributed, "all_gather_object", all_gather_object)
        strategy = SimpleNamespace(broadcast=lambda mine: precision, precision_plugin=Precision(), root_device=CPU)
        return SimpleNamespace(world_size=2, global_rank=1, precision="32-true", strategy=strategy)

    return make


@pytest.mark.parametrize(("steps", "named"), [((7, None), "7, 0"), ((None, 7), "0, 7"), ((7, 9), "7, 9")])
def test_ranks_with_different_first_steps_are_refused(rank_one, steps, named):
    with pytest.raises(
        UserError, match=f"^the processes would start at steps {named}, because they do not see the same"
    ):
        rank_state.RankSynchronisation(steps[1]).setup(rank_one(steps), None, "fit")


@pytest.mark.parametrize(("precision", "plugin"), [("bf16-mixed", MixedPrecision), ("32-true", Precision)])
def test_all_ranks_use_the_precision_of_rank_zero(rank_one, precision, plugin):
    trainer = rank_one(precision=precision)

    rank_state.RankSynchronisation(None).setup(trainer, None, "fit")

    assert type(trainer.strategy.precision_plugin) is plugin


def test_ranks_have_different_random_seeds():
    def first_number(rank):
        torch.manual_seed(3)
        rank_state.RankSynchronisation(None).on_train_start(SimpleNamespace(global_rank=rank), None)
        return torch.rand(()).item()

    torch.manual_seed(3)
    alone = torch.rand(()).item()

    assert first_number(0) == alone  # that of a run with one process
    assert len({first_number(rank) for rank in range(8)}) == 8
    assert first_number(5) == first_number(5)


# Metrics


class MeanProbability(Metric):
    """The mean over the batches of the probability of the first class; how it is updated is not said."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.add_state("probability", torch.tensor(0.0), "mean")

    def update(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        self.probability = 0.5 * (self.probability + logits.softmax(1)[:, 0].mean())

    def compute(self) -> torch.Tensor:
        return self.probability


def test_a_merged_state_without_more_batches_computes_without_a_warning(recwarn):
    merged = StageMetrics(3)

    rank_state.merge(merged, counted(batches(3)).state())

    assert torch.equal(merged.acc.compute(), counted(batches(3)).acc.compute())
    assert not recwarn.list


@pytest.mark.parametrize("first", [0, 1, 30, 49, 50, 51, 99])
def test_a_merged_state_is_exact(first):
    pairs = batches(120)
    whole = counted(pairs)
    before, after = StageMetrics(3), StageMetrics(3)
    for logits, targets in pairs[:first]:
        before.add(functional.cross_entropy(logits, targets), logits, targets)

    rank_state.merge(after, before.state())
    for logits, targets in pairs[first:]:
        after.add(functional.cross_entropy(logits, targets), logits, targets)
    after.flush()

    assert torch.equal(after.loss.compute(), whole.loss.compute())  # bit-identical
    assert torch.equal(after.acc.compute(), whole.acc.compute())


def test_states_of_several_ranks_are_merged():
    pairs = batches(10)
    merged = StageMetrics(3)

    for part in (pairs[:4], pairs[4:]):
        rank_state.merge(merged, counted(part).state())

    assert merged.loss.compute().item() == pytest.approx(counted(pairs).loss.compute().item())
    assert torch.equal(merged.acc.compute(), counted(pairs).acc.compute())


@pytest.mark.parametrize("first", [0, 30, 50, 55])
def test_a_merged_state_of_other_metrics_is_exact(first):
    pairs = batches(60)
    after = StageMetrics(3, OTHERS)

    rank_state.merge(after, with_others(pairs[:first]).state())
    for logits, targets in pairs[first:]:
        after.add(functional.cross_entropy(logits, targets), logits, targets)

    assert values(after) == values(with_others(pairs))


def test_states_of_other_metrics_of_several_ranks_are_merged():
    pairs = batches(20)
    merged = StageMetrics(3, OTHERS)

    for part in (pairs[:5], pairs[5:]):
        rank_state.merge(merged, with_others(part).state())

    assert values(merged) == pytest.approx(over_all(pairs))


def test_a_state_without_a_metric_that_was_added_is_merged():
    state = counted(batches(3)).state()

    merged = with_others([])
    rank_state.merge(merged, state)

    assert torch.equal(merged.acc.compute(), counted(batches(3)).acc.compute())


def test_a_metric_that_cannot_be_merged_is_restored():
    before, after = (StageMetrics(3, {"mean": MeanProbability}) for _ in range(2))
    for logits, targets in batches(3):
        before.add(torch.tensor(1.0), logits, targets)

    rank_state.merge(after, before.state())

    assert values(after) == values(before) != {"mean": 0}
