import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed.processes import run
from distributed.trainings import TOLERANCE, Training, train
from idx import write_idx_dataset

from lightning_cnn.data.mnist import MNIST

several = pytest.mark.parametrize("count", [2, 4])


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def accelerator(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_idx_dataset(folder, MNIST)
    return folder


@pytest.fixture(scope="module")
def trained(accelerator, data, tmp_path_factory) -> Callable[[int], Training]:
    """The same training in one, two or four processes, once each; torchrun starts four, Lightning two."""
    done: dict[int, Training] = {}

    def in_processes(count: int) -> Training:
        if accelerator == "gpu" and torch.cuda.device_count() < count:
            pytest.skip(f"{count} processes need a GPU each, and there are {torch.cuda.device_count()}")
        if count not in done:
            launcher = "torchrun" if count == 4 else "lightning"
            folder = tmp_path_factory.mktemp("training")
            done[count] = train(folder, data, processes=count, launcher=launcher, accelerator=accelerator)
        return done[count]

    return in_processes


@several
def test_every_step_has_the_same_images_in_the_same_order_augmented_the_same(trained, count):
    together, alone = trained(count), trained(1)

    assert [len(step) for step in alone.steps] == [48, 48, 54] * 2
    assert together.steps == alone.steps
    assert [len(witness["steps"][2]) for witness in together.witnesses] == {2: [27, 27], 4: [14, 14, 13, 13]}[count]


@several
def test_every_loss_is_the_same_and_every_accuracy_exactly(trained, count, accelerator):
    together, alone = trained(count), trained(1)

    assert sum("train/loss_step" in row for row in alone.losses) == 6
    assert together.losses == [pytest.approx(row, rel=TOLERANCE[accelerator]) for row in alone.losses]
    assert together.other_metrics == alone.other_metrics


@several
def test_only_the_first_process_speaks_and_writes(trained, count):
    together, alone = trained(count), trained(1)

    assert together.files == alone.files
    assert together.files.count("events") == together.files.count("metrics.csv") == 1
    assert together.printed.count("Run folder: ") == together.printed.count("Test accuracy: ") == 1


@several
def test_one_process_reads_the_files_for_all_and_nothing_stays_of_that(trained, count):
    together = trained(count)

    assert [witness["has_read"] for witness in together.witnesses] == [True] + [False] * (count - 1)
    assert together.left_over == []


def results(run: Path) -> tuple[str, dict[str, Any]]:
    """The predictions of a test, and its figures without those that tell where the checkpoint was."""
    figures = json.loads((run / "test_metrics.json").read_text())
    return (run / "test_predictions.csv").read_text(), {k: v for k, v in figures.items() if k != "checkpoint"}


def test_one_checkpoint_has_the_same_test_result_in_any_number_of_processes(
    trained, accelerator, data, tmp_path, tiny_data, cli
):
    tested = trained(4 if accelerator == "cpu" or torch.cuda.device_count() >= 4 else 2).run
    by_one, by_two = (tmp_path / name / "run" for name in ("one", "two"))
    for folder in (by_one, by_two):
        shutil.copytree(tested / "checkpoints", folder / "checkpoints")
    quiet = ("--trainer.enable_progress_bar", "false")
    alone = ("--data.data_dir", data, "--trainer.accelerator", accelerator, "--trainer.devices", 1)

    one = cli("test", "--ckpt_path", by_one, *quiet, *alone)
    two = run(("test", "--ckpt_path", by_two, *quiet), folder=tmp_path, data=data, processes=2, accelerator=accelerator)

    assert (one.status, two.status) == (0, 0), one.err + two.printed
    predictions, figures = results(by_one)
    assert 0 < figures["test/acc"] < 1 and figures["images"] == 100
    for again in (results(by_two), results(tested)):
        assert again[0] == predictions
        assert again[1] == figures | {"test/loss": pytest.approx(figures["test/loss"], rel=TOLERANCE[accelerator])}
