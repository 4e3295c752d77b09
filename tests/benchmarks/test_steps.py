import json
from dataclasses import replace

import pytest

from benchmarks import runs
from benchmarks.process import WorkerError

#: The parameters of MLP.
PARAMETERS = 669_706
MLP = {"system": "MLP", "seed": 0, "precision": "32-true", "accelerator": "cpu"}


def test_two_processes_send_their_gradients_and_a_few_bytes(options, real_data_dir, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    options = replace(options, data_dir=real_data_dir, allow_sample=False, limit_batches=2)

    steps = runs.fit_steps(options, **MLP, processes=2, batch_size=32)

    assert steps["parameters"] == PARAMETERS
    gradients = 4 * PARAMETERS  # float32
    is_finite, synchronisation = 8, 2 * 8  # of losses and gradients; whether to save, and whether to stop
    assert steps["sent"]["allreduce_"] == gradients + is_finite + synchronisation
    assert steps["sent"]["broadcast_"] == 2 * 4  # mean and deviation of the pixels
    assert 0 < steps["step_seconds"] < 10


def test_one_process_sends_nothing(fit, tmp_path):
    callback = ("--trainer.callbacks+=benchmarks.callbacks.Steps", "--trainer.callbacks.file", "steps.json")
    fit("fashion_mnist/mlp.yaml", "--data.batch_size", 16, *callback, "--trainer.precision", "32-true")

    steps = json.loads((tmp_path / "steps.json").read_text())
    assert (steps["sent"], steps["parameters"], steps["threads"]) == ({}, PARAMETERS, 1)
    assert steps["precision"] == "32-true"


def test_a_dataset_too_small_to_time_a_step_is_refused(options, monkeypatch):
    monkeypatch.setattr(runs, "command", lambda *words, variables: 0.0)

    with pytest.raises(WorkerError, match=r"^there are too few images for 8 processes and 64 images per step$"):
        runs.fit_steps(options, **MLP, processes=8, batch_size=64)
