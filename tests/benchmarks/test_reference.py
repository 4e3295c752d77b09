import time

import torch

from benchmarks import reference


def test_the_network_is_that_of_the_example():
    network = reference.Network()

    assert sum(p.numel() for p in network.parameters()) == 1_199_882
    logarithms = network(torch.rand(3, 1, 28, 28))
    torch.testing.assert_close(logarithms.exp().sum(dim=1), torch.ones(3))


def test_it_stops_at_the_target(sample):
    run = reference.train(str(sample), target=0.0, started_at=time.time() - 100, limit_batches=2)

    assert len(run["epochs"]) == 1
    assert 100 < run["seconds"] == run["epochs"][0]["seconds"]


def test_it_stops_after_its_last_epoch(sample, monkeypatch):
    monkeypatch.setattr(reference, "EPOCHS", 2)

    run = reference.train(str(sample), target=1.1, started_at=time.time(), limit_batches=1)

    assert run["seconds"] is None
    assert len(run["epochs"]) == 2


def test_it_learns(sample, monkeypatch):
    monkeypatch.setattr(reference, "EPOCHS", 1)

    run = reference.train(str(sample), target=0.99, started_at=time.time(), limit_batches=None)

    assert run["epochs"][0]["test_acc"] > 0.6
