import pytest
from chaos import divergence
from chaos.divergence import Fault, train

from lightning_cnn.callbacks.divergence import FiniteCheck

pytestmark = pytest.mark.usefixtures("_one_thread")


def test_training_stops_before_its_weights_are_lost(tmp_path):
    outcome = divergence.run(30, seed=0, folder=tmp_path)

    assert outcome.lost == []
    assert outcome.survived == 30


def test_a_training_that_continues_is_reported(tmp_path, monkeypatch):
    fault = Fault("loss", "itself", float("inf"), place=0, batch=2)
    assert train(fault, "SGD", 1, tmp_path / "checked") == ""
    monkeypatch.setattr(FiniteCheck, "on_before_optimizer_step", lambda *_: None)

    assert train(fault, "SGD", 1, tmp_path / "unchecked") == "it continued"
