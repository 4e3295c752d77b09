import json

import pytest

from benchmarks import runs
from benchmarks.process import WorkerError

#: Of MLP.
PARAMETERS = 669_706
MLP = {
    "system": "MLP",
    "precision": "32-true",
    "seed": 0,
    "allow_sample": False,
    "limit_batches": 2,
    "accelerator": "cpu",
}


def test_two_processes_send_their_gradients_and_a_few_words(real_data_dir, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    steps = runs.fit_steps(**MLP, processes=2, batch_size=32, data_dir=str(real_data_dir))

    assert steps["parameters"] == PARAMETERS
    gradients = 4 * PARAMETERS  # float32
    is_finite, agreement = 8, 2 * 8  # whether losses and gradients are, in all of them; whether to save, or to stop
    assert steps["sent"]["allreduce_"] == gradients + is_finite + agreement
    assert steps["sent"]["broadcast_"] == 2 * 4  # mean and deviation of the pixels
    assert 0 < steps["step_seconds"] < 10


def test_one_process_sends_nothing(fit, tmp_path):
    callback = ("--trainer.callbacks+=benchmarks.steps.Steps", "--trainer.callbacks.file", "steps.json")
    fit("fashion_mnist/mlp.yaml", "--data.batch_size", 16, *callback, "--trainer.precision", "32-true")

    steps = json.loads((tmp_path / "steps.json").read_text())
    assert (steps["sent"], steps["parameters"], steps["threads"]) == ({}, PARAMETERS, 1)
    assert steps["precision"] == "32-true"


def test_too_few_images_to_time_a_step_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "command", lambda *words: 0.0)

    with pytest.raises(WorkerError, match=r"^there are too few images for 8 processes with 64 each at every step$"):
        runs.fit_steps(**MLP, processes=8, batch_size=64, data_dir=str(tmp_path))
