import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from chaos.common import differences
from distributed.trainings import TOLERANCE, train

from lightning_cnn import checkpoint

#: torchrun sets the processes, which the config shows.
LAUNCHER = {f"/lightning_cnn/config/trainer/{name}" for name in ("devices", "num_nodes")}

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
    assert training.files.count("metrics.csv") == 1
    assert training.files.count("events") == 2  # of the training and of the test
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


@several
def test_a_checkpoint_has_the_same_test_result_in_one_process(
    trained, count, accelerator, data, tmp_path, tiny_data, cli
):
    tested = trained(count).run
    shutil.copytree(tested / "checkpoints", tmp_path / "run/checkpoints")

    one = cli(
        *("test", "--ckpt_path", tmp_path / "run", "--data.data_dir", data),
        *("--trainer.accelerator", accelerator, "--trainer.devices", 1, "--trainer.enable_progress_bar", "false"),
    )

    assert one.status == 0, one.err
    (predictions, metrics), (again, metrics_again) = results(tmp_path / "run"), results(tested)
    assert 0 < metrics["test/acc"] < 1 and metrics["images"] == 100
    assert again == predictions
    assert metrics_again == metrics | {"test/loss": pytest.approx(metrics["test/loss"], rel=TOLERANCE[accelerator])}


@pytest.mark.parametrize("accelerator", ["cpu"], indirect=True)
def test_a_run_whose_processes_torchrun_restarts_has_the_same_result_to_the_bit(trained, data, tmp_path):
    whole = trained(2)

    restarted = train(
        tmp_path,
        data,
        *("--resume", "auto"),
        processes=2,
        launcher="torchrun",
        max_restarts=1,
        environment={"CHILD_FAULTS": "0 train 4 killed"},
    )

    assert restarted.output.count("died; resume from step 3") == 1
    assert restarted.output.count("Resumed: logs/mnist-cnn/version_0") == 1
    assert restarted.output.count("Test accuracy: ") == 1
    for name in ("best", "last"):
        contents = [checkpoint.read(training.run / f"checkpoints/{name}.ckpt") for training in (whole, restarted)]
        assert set(differences(*contents)) <= LAUNCHER
    for name in ("metrics.csv", "test_predictions.csv"):
        assert (restarted.run / name).read_bytes() == (whole.run / name).read_bytes()
