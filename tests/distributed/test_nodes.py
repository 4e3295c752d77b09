import pytest
from distributed.trainings import FIT, TOLERANCE, Training, train
from idx import write_idx_dataset

from lightning_cnn.data.mnist import MNIST

#: One batch of validation and one of test for both processes.
ONE_BATCH = ("--data.eval_batch_size", "1000")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Training:
    """A training on two machines, both of which are this one, with a process on each."""
    data = tmp_path_factory.mktemp("data")
    write_idx_dataset(data, MNIST)
    return train(tmp_path_factory.mktemp("training"), data, *ONE_BATCH, launcher="torchrun", nodes=2)


def test_each_machine_reads_the_files_once(trained):
    assert [(witness["node"], witness["has_read"]) for witness in trained.witnesses] == [(0, True), (1, True)]
    assert trained.left_over == []


def test_only_the_first_process_of_the_first_machine_speaks_and_writes(trained):
    assert trained.files.count("events") == trained.files.count("metrics.csv") == 1
    assert trained.printed.count("Run folder: ") == trained.printed.count("Test accuracy: ") == 1


def test_two_machines_come_to_the_same_as_one_process(trained, tmp_path, tiny_data, cli):
    assert cli(*FIT, *ONE_BATCH, "--trainer.accelerator", "cpu", "--trainer.devices", 1).status == 0
    alone = Training(tmp_path, "")

    assert trained.steps == alone.steps
    assert trained.losses == [pytest.approx(row, rel=TOLERANCE["cpu"]) for row in alone.losses]
    assert trained.other_metrics == alone.other_metrics
    labels, expected_labels = (
        [line.split(",")[:3] for line in (training.run / "test_predictions.csv").read_text().splitlines()]
        for training in (trained, alone)
    )
    assert labels == expected_labels and len(labels) == 101
