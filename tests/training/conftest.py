import shutil
from pathlib import Path

import pytest
import torch

from lightning_cnn.cli import main
from lightning_cnn.data import FashionMNISTDataModule


@pytest.fixture
def fit(fit):
    """The fixture `fit`, in float32 by default: the precision probe takes longer than these trainings."""
    return lambda config, *flags: fit(config, "--trainer.precision", "32-true", *flags)


@pytest.fixture(scope="session")
def _mlp_logs(_tiny_datasets, tmp_path_factory, configs) -> Path:
    data, facts = _tiny_datasets
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("mlp"))
        patch.setenv("LIGHTNING_CNN_DATA_DIR", str(data))
        patch.setattr(FashionMNISTDataModule, "facts", facts["fashion_mnist"])
        torch.set_num_threads(1)
        flags = {
            "config": configs / "fashion_mnist/mlp.yaml",
            "model.optimizer.lr": 0.5,
            "data.val_size": 50,
            "trainer.max_epochs": 3,
            "trainer.log_every_n_steps": 2,
            "trainer.precision": "32-true",
            "plots.enabled": "false",
            "dashboard.enabled": "false",
        }
        assert main(["fit", *(f"--{name}={value}" for name, value in flags.items())]) == 0
        torch.set_num_threads(threads)
        return Path("logs").absolute()


@pytest.fixture
def mlp_run(_mlp_logs, tiny_data) -> Path:
    """A copy of a run of MLP on Fashion-MNIST: three epochs of three steps."""
    shutil.copytree(_mlp_logs, "logs")
    return Path("logs/fashion_mnist-mlp/version_0")
