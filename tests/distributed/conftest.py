from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from distributed.trainings import Training, train
from idx import write_idx_dataset

from lightning_cnn.data.mnist import MNIST


@pytest.fixture(scope="package")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_idx_dataset(folder, MNIST)
    return folder


@pytest.fixture(scope="package", params=["cpu", "gpu"])
def accelerator(request) -> str:
    return request.param


@pytest.fixture(scope="package")
def trained(accelerator, data, tmp_path_factory) -> Callable[[int], Training]:
    """The same training in one, two or four processes, once each.

    Lightning starts two; torchrun starts four, as two nodes of two processes, both of which are this machine.
    """
    done: dict[int, Training] = {}

    def in_processes(count: int) -> Training:
        if accelerator == "gpu" and torch.cuda.device_count() < count:
            pytest.skip(f"{count} processes need a GPU each, and there are {torch.cuda.device_count()}")
        if count not in done:
            options = {"processes": count}
            if count == 4:
                options = {"launcher": "torchrun", "processes": 2, "nodes": 2}
            folder = tmp_path_factory.mktemp("training")
            done[count] = train(folder, data, accelerator=accelerator, **options)
        return done[count]

    return in_processes
