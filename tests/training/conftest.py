from pathlib import Path

import pytest


@pytest.fixture
def mlp_run(trained) -> Path:
    """A run of MLP on Fashion-MNIST: three epochs of three steps."""
    flags = {"model.optimizer.lr": 0.5, "trainer.max_epochs": 3, "trainer.log_every_n_steps": 2}
    return trained("fashion_mnist/mlp.yaml", *(f"--{name}={value}" for name, value in flags.items()))
