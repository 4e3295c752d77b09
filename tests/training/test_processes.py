import random

import numpy as np
import pytest
import torch

from lightning_cnn.classifiers import MLPClassifier
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.training import processes

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
    metrics.settle()
    return metrics.loss.weight.item(), metrics.loss.compute().item(), metrics.acc.compute().item()


def test_random_numbers_go_on_where_they_were():
    states = processes.random_states(CPU)
    first = drawn()
    second = drawn()

    processes.set_random_states(states, CPU)

    assert drawn() == first != second


def test_random_states_are_plain_enough_for_a_checkpoint(tmp_path):
    states = processes.random_states(CPU)
    torch.save(states, tmp_path / "states")
    first = drawn()

    processes.set_random_states(torch.load(tmp_path / "states", weights_only=True), CPU)

    assert drawn() == first


def test_a_process_gets_back_what_it_had(fitted):
    run = fitted()
    states = processes.gather(run)
    first, then = drawn(), counted(run)
    again = fitted()
    again.lightning_module.train_metrics.loss.reset()
    again.lightning_module.train_metrics.acc.reset()
    again.lightning_module.train_metrics._losses.clear()
    again.lightning_module.train_metrics._logits.clear()

    processes.restore(again, states)

    assert drawn() == first
    assert counted(again) == then


@pytest.mark.parametrize(("rank", "images"), [(0, 30.0), (1, 0.0)])
def test_with_fewer_processes_the_first_takes_all_that_was_counted(fitted, monkeypatch, rank, images):
    run = fitted()
    states = processes.gather(run) * 3
    metrics = run.lightning_module.train_metrics
    metrics.loss.reset(), metrics.acc.reset()
    metrics._losses.clear(), metrics._logits.clear()
    monkeypatch.setattr(type(run), "world_size", 2)
    monkeypatch.setattr(type(run), "global_rank", rank)

    processes.restore(run, states)
    metrics.settle()

    assert metrics.loss.weight.item() == images
