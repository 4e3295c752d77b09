import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed.processes import run
from distributed.trainings import TOLERANCE

several = pytest.mark.parametrize("count", [2, 4])


@several
def test_every_step_has_the_same_images_in_the_same_order_with_the_same_augmentation(trained, count):
    training, single = trained(count), trained(1)

    assert [len(step) for step in single.steps] == [48, 48, 54] * 2
    assert training.steps == single.steps
    assert [len(rank["steps"][2]) for rank in training.ranks] == {2: [27, 27], 4: [14, 14, 13, 13]}[count]


@several
def test_losses_are_the_same_and_accuracies_exactly(trained, count, accelerator):
    training, single = trained(count), trained(1)

    assert sum("train/loss_step" in row for row in single.losses) == 6
    assert training.losses == [pytest.approx(row, rel=TOLERANCE[accelerator]) for row in single.losses]
    assert training.other_metrics == single.other_metrics


@several
def test_only_rank_zero_prints_and_writes(trained, count):
    training, single = trained(count), trained(1)

    assert training.files == single.files
    assert training.files.count("events") == training.files.count("metrics.csv") == 1
    assert training.output.count("Run folder: ") == training.output.count("Test accuracy: ") == 1


@several
def test_one_process_of_each_node_reads_the_files_and_nothing_temporary_is_left(trained, count):
    training = trained(count)

    nodes = {2: [(0, True), (0, False)], 4: [(0, True), (0, False), (1, True), (1, False)]}
    assert [(rank["node"], rank["has_read"]) for rank in training.ranks] == nodes[count]
    assert training.left_over == []


def results(run: Path) -> tuple[str, dict[str, Any]]:
    """The predictions of a test, and its metrics without the path of the checkpoint."""
    metrics = json.loads((run / "test_metrics.json").read_text())
    return (run / "test_predictions.csv").read_text(), {k: v for k, v in metrics.items() if k != "checkpoint"}


def test_a_checkpoint_has_the_same_test_result_in_any_number_of_processes(
    trained, accelerator, data, tmp_path, tiny_data, cli
):
    tested = trained(4 if accelerator == "cpu" or torch.cuda.device_count() >= 4 else 2).run
    by_one, by_two = (tmp_path / name / "run" for name in ("one", "two"))
    for folder in (by_one, by_two):
        shutil.copytree(tested / "checkpoints", folder / "checkpoints")
    quiet = ("--trainer.enable_progress_bar", "false")
    single = ("--data.data_dir", data, "--trainer.accelerator", accelerator, "--trainer.devices", 1)

    one = cli("test", "--ckpt_path", by_one, *quiet, *single)
    two = run(("test", "--ckpt_path", by_two, *quiet), folder=tmp_path, data=data, processes=2, accelerator=accelerator)

    assert (one.status, two.status) == (0, 0), one.err + two.output
    predictions, metrics = results(by_one)
    assert 0 < metrics["test/acc"] < 1 and metrics["images"] == 100
    for again in (results(by_two), results(tested)):
        assert again[0] == predictions
        assert again[1] == metrics | {"test/loss": pytest.approx(metrics["test/loss"], rel=TOLERANCE[accelerator])}
