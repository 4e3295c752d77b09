import csv
import hashlib
import json

import numpy as np
import pytest
import torch
from idx import idx_files
from torch.optim import Adam

from lightning_cnn.callbacks import TestResults
from lightning_cnn.classifiers import MLPClassifier
from lightning_cnn.data import FashionMNISTDataModule
from lightning_cnn.data.facts import TEST_IMAGES, TEST_LABELS
from lightning_cnn.data.fashion_mnist import FASHION_MNIST


@pytest.fixture
def tested(tiny_data, trainer, tmp_path):
    """A trained classifier that was tested in batches of 40, 40 and 20, with what the test has left behind."""
    classifier = MLPClassifier(lambda parameters: Adam(parameters, lr=1e-4))
    datamodule = FashionMNISTDataModule(val_size=50, eval_batch_size=40)
    run = trainer(max_epochs=4)
    run.fit(classifier, datamodule=datamodule)
    run.save_checkpoint(tmp_path / "some.ckpt")
    results = TestResults(tmp_path, tmp_path / "some.ckpt")
    trainer(callbacks=[results]).test(
        classifier, datamodule=datamodule, ckpt_path=tmp_path / "some.ckpt", weights_only=True, verbose=False
    )
    results.val_acc = run.callback_metrics["val/acc"].item()
    return classifier, results, tmp_path


@pytest.fixture
def truth():
    """The test images and labels, read by hand."""
    files = idx_files(seed=1)
    images = np.frombuffer(files[TEST_IMAGES], np.uint8, offset=16).reshape(100, 1, 28, 28)
    return torch.from_numpy(images.copy()), np.frombuffer(files[TEST_LABELS], np.uint8, offset=8)


def test_predictions_agree_with_an_independent_forward_pass(tested, truth):
    classifier, _, folder = tested
    images, labels = truth
    with torch.no_grad():
        logits = classifier.network(images.float() / 255).double().numpy()
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = FashionMNISTDataModule.facts.classes

    with (folder / "test_predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert list(rows[0]) == ["index", "true", "predicted", "confidence", "loss"]
    assert [int(row["index"]) for row in rows] == list(range(100))
    assert [row["true"] for row in rows] == [names[label] for label in labels]
    assert [row["predicted"] for row in rows] == [names[guess] for guess in logits.argmax(axis=1)]
    assert [float(row["confidence"]) for row in rows] == pytest.approx(shares.max(axis=1).tolist(), abs=2e-6)
    losses = -np.log(shares[range(100), labels])
    assert [float(row["loss"]) for row in rows] == pytest.approx(losses.tolist(), abs=2e-6)
    assert len({row["predicted"] for row in rows}) > 1


def test_metrics_agree_with_the_predictions(tested):
    _, _, folder = tested
    with (folder / "test_predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    metrics = json.loads((folder / "test_metrics.json").read_text())

    assert metrics["images"] == 100
    assert metrics["test/acc"] == pytest.approx(sum(row["true"] == row["predicted"] for row in rows) / 100)
    assert metrics["test/loss"] == pytest.approx(sum(float(row["loss"]) for row in rows) / 100, abs=2e-6)
    assert metrics["class_names"] == list(FASHION_MNIST.classes)
    assert metrics["checkpoint"] == str(folder / "some.ckpt")
    assert metrics["checkpoint_sha256"] == hashlib.sha256((folder / "some.ckpt").read_bytes()).hexdigest()
    assert metrics["data"]["dataset"] == "Fashion-MNIST"
    assert metrics["data"]["sample"] is False


def test_the_summary_tells_both_accuracies_in_percent(tested):
    _, results, folder = tested
    accuracy = json.loads((folder / "test_metrics.json").read_text())["test/acc"]

    line, written = results.summary.splitlines()

    assert line == (
        f"Test accuracy: {100 * accuracy:.2f} % of 100 images "
        f"(validation accuracy in training: {100 * results.val_acc:.2f} %)"
    )
    assert written == f"Written: {folder / 'test_metrics.json'}, {folder / 'test_predictions.csv'}"


def test_a_second_test_replaces_the_results_of_the_first(tested, trainer):
    classifier, results, folder = tested
    first = (folder / "test_predictions.csv").read_text()

    datamodule = FashionMNISTDataModule(val_size=50, eval_batch_size=7)
    trainer(callbacks=[results]).test(classifier, datamodule=datamodule, verbose=False)

    assert len((folder / "test_predictions.csv").read_text().splitlines()) == len(first.splitlines()) == 101
