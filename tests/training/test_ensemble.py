import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.config.loading import load_classifier
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.run import Run

FOLDER = Path("logs/mnist-ensemble/version_0")


@pytest.fixture
def members(trained):
    """Two runs of one network with other seeds."""
    flags = ("--model.channels", 8, "--model.metrics.f1", "MulticlassF1Score")
    return [trained("mnist/fast.yaml", *flags, "--seed_everything", seed) for seed in (0, 1)]


def predictions_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "test_predictions.csv").open(newline="") as file:
        return [*csv.DictReader(file)]


def test_the_mean_of_the_probabilities_is_tested(members, cli, tiny_data):
    outcome = cli("test", *members)

    data = MNISTDataModule(val_size=50)
    data.setup("test")
    images, targets = data.test_set[:100]
    with torch.inference_mode():
        models = [load_classifier(checkpoints.read(Run(run).checkpoint("best"))) for run in members]
        mean = np.mean([model(images).double().softmax(dim=1).numpy() for model in models], axis=0)
    rows, metrics = predictions_of(FOLDER), json.loads((FOLDER / "test_metrics.json").read_text())
    assert (outcome.status, outcome.err) == (0, "")
    assert [row["predicted"] for row in rows] == [str(label) for label in mean.argmax(axis=1)]
    assert [float(row["confidence"]) for row in rows] == pytest.approx(mean.max(axis=1).tolist(), abs=1e-5)
    losses = -np.log(mean[range(100), targets])
    assert metrics["test/loss"] == pytest.approx(losses.mean(), abs=1e-5)
    assert metrics["test/acc"] == pytest.approx((mean.argmax(axis=1) == targets.numpy()).mean())
    assert [member["checkpoint"] for member in metrics["members"]] == [
        str(run / "checkpoints/best.ckpt") for run in members
    ]
    assert f"Test accuracy: {100 * metrics['test/acc']:.2f} % of 100 images, by the mean of the probabilities of 2" in (
        outcome.out
    )
    assert not any(Run(run).test_metrics_file.exists() for run in members)


def test_metrics_of_the_user_and_the_report_are_those_of_the_mean(members, cli):
    assert cli("test", *members).status == 0

    assert 0 <= json.loads((FOLDER / "test_metrics.json").read_text())["test/f1"] <= 1
    assert cli("report", FOLDER).status == 0
    assert re.search(r"<h1>An ensemble of \d on MNIST</h1>", (FOLDER / "report.html").read_text(encoding="utf-8"))


def test_checkpoints_that_do_not_agree_are_one_line(members, fit, cli):
    other = fit("fashion_mnist/fast.yaml", "--model.channels", 8)
    first, second = (Run(run).checkpoint("best") for run in members)
    before = {path for run in (*members, other) for path in Path(run).rglob("*")}

    for arguments, message in (
        (
            (first, other),
            f"best.ckpt and {first} have other classes, or in another order; only checkpoints of the same",
        ),
        ((first, first), f"{first} has the same weights as {first}; give each once"),
        ((second, first, "--trainer.devices", 2, "--trainer.accelerator", "cpu"), "add --trainer.devices 1"),
        ((first, "nowhere"), "checkpoint nowhere does not exist"),
    ):
        outcome = cli("test", *arguments)
        assert outcome.status == 2
        assert message in outcome.err.splitlines()[-1]
        assert outcome.out == ""  # nothing was tested
    assert not FOLDER.exists()
    assert {path for run in (*members, other) for path in Path(run).rglob("*")} == before


def test_settings_are_printed_for_the_first(members, cli):
    outcome = cli("test", *members, "--print_config")

    assert outcome.status == 0 and "class_path: lightning_cnn.classifiers.FastCNNClassifier" in outcome.out


def test_only_test_takes_several(members, cli):
    outcome = cli("validate", *members)

    assert outcome.status == 2 and "is one argument too many" in outcome.err
