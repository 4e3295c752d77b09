import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision

from lightning_cnn.classifiers import MLPClassifier
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.errors import UserError
from lightning_cnn.training import rank_state

CPU = torch.device("cpu")


def drawn() -> list[float]:
    return [random.random(), np.random.random(), torch.rand(()).item()]


@pytest.fixture
def fitted(trainer, tiny_data):
    """A trainer whose model has counted something in an epoch that is not over."""

    def make():
        run = trainer(ours=True)
        run.fit(MLPClassifier(), datamodule=MNISTDataModule(val_size=50))
        run.lightning_module.train_metrics.add(torch.tensor(2.5), torch.eye(10), torch.arange(10))
        return run

    return make


def counted(run) -> tuple[float, float, float]:
    metrics = run.lightning_module.train_metrics
    metrics.flush()
    return metrics.loss.weight.item(), metrics.loss.compute().item(), metrics.acc.compute().item()


def test_random_numbers_go_on_where_they_were():
    states = rank_state.random_states(CPU)
    first = drawn()
    second = drawn()

    rank_state.set_random_states(states, CPU)

    assert drawn() == first != second


def test_random_states_are_plain_enough_for_a_checkpoint(tmp_path):
    states = rank_state.random_states(CPU)
    torch.save(states, tmp_path / "states")
    first = drawn()

    rank_state.set_random_states(torch.load(tmp_path / "states", weights_only=True), CPU)

    assert drawn() == first


def test_a_process_gets_back_what_it_had(fitted):
    run = fitted()
    states = rank_state.gather(run)
    first, then = drawn(), counted(run)
    again = fitted()
    again.lightning_module.train_metrics.reset()

    rank_state.restore(again, states)

    assert drawn() == first
    assert counted(again) == then


@pytest.mark.parametrize(("rank", "images"), [(0, 30.0), (1, 0.0)])
def test_with_fewer_processes_the_first_takes_all_that_was_counted(fitted, monkeypatch, rank, images):
    run = fitted()
    states = rank_state.gather(run) * 3
    metrics = run.lightning_module.train_metrics
    metrics.reset()
    monkeypatch.setattr(type(run), "world_size", 2)
    monkeypatch.setattr(type(run), "global_rank", rank)

    rank_state.restore(run, states)
    metrics.flush()

    assert metrics.loss.weight.item() == images


# What they agree on


@pytest.fixture
def second_of_two(monkeypatch):
    """The trainer of the second of two processes, which begin at these steps; the first one computes as it is said."""

    def make(steps=(None, None), precision="32-true"):
        def all_gather_object(gathered, mine):
            gathered[:] = steps

        monkeypatch.setattr(torch.distributed, "all_gather_object", all_gather_object)
        strategy = SimpleNamespace(broadcast=lambda mine: precision, precision_plugin=Precision(), root_device=CPU)
        return SimpleNamespace(world_size=2, global_rank=1, precision="32-true", strategy=strategy)

    return make


@pytest.mark.parametrize(("steps", "told"), [((7, None), "7, 0"), ((None, 7), "0, 7"), ((7, 9), "7, 9")])
def test_processes_that_would_not_begin_at_the_same_step_are_refused(second_of_two, steps, told):
    with pytest.raises(
        UserError, match=f"^the processes would start at steps {told}, because they do not see the same"
    ):
        rank_state.RankSynchronisation(steps[1]).setup(second_of_two(steps), None, "fit")


@pytest.mark.parametrize(("precision", "plugin"), [("bf16-mixed", MixedPrecision), ("32-true", Precision)])
def test_the_precision_is_the_one_that_the_first_process_has_tried(second_of_two, precision, plugin):
    trainer = second_of_two(precision=precision)

    rank_state.RankSynchronisation(None).setup(trainer, None, "fit")

    assert type(trainer.strategy.precision_plugin) is plugin


def test_no_two_processes_drop_out_the_same_units():
    def first_number(rank):
        torch.manual_seed(3)
        rank_state.RankSynchronisation(None).on_train_start(SimpleNamespace(global_rank=rank), None)
        return torch.rand(()).item()

    torch.manual_seed(3)
    alone = torch.rand(()).item()

    assert first_number(0) == alone  # as in a run of one process
    assert len({first_number(rank) for rank in range(8)}) == 8
    assert first_number(5) == first_number(5)
