import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from idx import idx_files
from torch.optim import Adam

from lightning_cnn.callbacks import TestResults
from lightning_cnn.classifiers import MLPClassifier
from lightning_cnn.data import FashionMNISTDataModule, MNISTDataModule
from lightning_cnn.data.facts import TEST_IMAGES, TEST_LABELS
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.errors import UserError


@pytest.fixture
def tested(tiny_data, trainer, tmp_path):
    """A trained classifier that was tested in batches of 40, 40 and 20, with its results and their folder."""
    classifier = MLPClassifier(optimizer=lambda parameters: Adam(parameters, lr=1e-4))
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
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = FashionMNISTDataModule.facts.classes

    with (folder / "test_predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert list(rows[0]) == ["index", "true", "predicted", "confidence", "loss"]
    assert [int(row["index"]) for row in rows] == list(range(100))
    assert [row["true"] for row in rows] == [names[label] for label in labels]
    assert [row["predicted"] for row in rows] == [names[guess] for guess in logits.argmax(axis=1)]
    assert [float(row["confidence"]) for row in rows] == pytest.approx(probabilities.max(axis=1).tolist(), abs=2e-6)
    losses = -np.log(probabilities[range(100), labels])
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
    assert metrics["shortened"] is False


def test_the_summary_has_both_accuracies_in_percent(tested):
    _, results, folder = tested
    accuracy = json.loads((folder / "test_metrics.json").read_text())["test/acc"]

    line, written = results.summary.splitlines()

    assert line == (
        f"Test accuracy: {100 * accuracy:.2f} % of 100 images "
        f"(validation accuracy in training: {100 * results.val_acc:.2f} %)"
    )
    assert written == f"Written: {folder / 'test_metrics.json'}, {folder / 'test_predictions.csv'}"


@pytest.fixture
def again(tested, trainer):
    """Test once more, and return whether the files in the folder have changed."""
    classifier, _, folder = tested

    def test(checkpoint="some.ckpt", overwrite=False, datamodule=FashionMNISTDataModule, **options) -> bool:
        before = contents(folder)
        results = TestResults(folder, folder / checkpoint, overwrite)
        run = trainer(callbacks=[results], **options)
        run.test(
            classifier, datamodule=datamodule(val_size=50, eval_batch_size=20), verbose=False,
            ckpt_path=folder / checkpoint, weights_only=True,
        )  # fmt: skip
        return contents(folder) != before

    return test


def contents(folder: Path) -> list[str]:
    return [(folder / name).read_text() for name in ("test_metrics.json", "test_predictions.csv")]


def change(folder: Path, **entries: object) -> None:
    """Change entries of the metrics, or leave out those that are None."""
    path = folder / "test_metrics.json"
    record = {**json.loads(path.read_text()), **entries}
    path.write_text(json.dumps({key: value for key, value in record.items() if value is not None}))


@pytest.fixture
def other(tested):
    """A checkpoint with other weights."""
    *_, folder = tested
    content = torch.load(folder / "some.ckpt", weights_only=True)
    content["state_dict"] = {name: value * 0.9 for name, value in content["state_dict"].items()}
    torch.save(content, folder / "other.ckpt")
    return "other.ckpt"


def test_the_same_test_may_be_repeated(tested, again):
    *_, folder = tested
    change(folder, note="of an earlier test")

    assert again()
    assert "note" not in json.loads((folder / "test_metrics.json").read_text())


def test_whole_results_are_not_replaced_by_shortened_ones_without_overwrite(tested, again):
    *_, folder = tested
    before = contents(folder)

    with pytest.raises(
        UserError, match=r"test_metrics\.json has the results of a whole test, and this test is shortened; add `--over"
    ):
        again(limit_test_batches=2)
    assert contents(folder) == before

    assert again(limit_test_batches=2, overwrite=True)
    assert json.loads((folder / "test_metrics.json").read_text())["shortened"] is True


def test_shortened_results_are_always_replaced(tested, again, other):
    *_, folder = tested
    again(limit_test_batches=2, overwrite=True)

    assert again(other, limit_test_batches=1)
    assert again()
    assert json.loads((folder / "test_metrics.json").read_text())["shortened"] is False


def test_results_are_not_replaced_by_those_of_other_weights_without_overwrite(tested, again, other):
    *_, folder = tested
    before = contents(folder)
    first = json.loads(before[0])["checkpoint_sha256"]

    with pytest.raises(UserError, match=r"json has the results of .*some\.ckpt, another file; add `--overwrite true`"):
        again(other)
    assert contents(folder) == before

    (folder / other).rename(folder / "some.ckpt")
    with pytest.raises(UserError, match=r"json has the results of .*some\.ckpt, which has changed since; add `--over"):
        again()
    assert contents(folder) == before

    assert again(overwrite=True)
    assert json.loads((folder / "test_metrics.json").read_text())["checkpoint_sha256"] != first


def test_results_are_not_replaced_by_those_on_other_data(tested, again):
    with pytest.raises(UserError, match=r"json has the results on other data, Fashion-MNIST; add `--overwrite true`"):
        again(datamodule=MNISTDataModule)


@pytest.mark.parametrize("entry", ["checkpoint_sha256", "data", "shortened"])
def test_incomplete_results_are_replaced_only_with_overwrite(tested, again, entry):
    *_, folder = tested
    change(folder, **{entry: None})

    with pytest.raises(UserError, match=r"is damaged or incomplete; add `--overwrite true`"):
        again()
    assert again(overwrite=True)


@pytest.mark.parametrize(
    "content",
    ["", "[1]", '{"shortened": false, "data": 3, "checkpoint": "", "checkpoint_sha256": ""}', "\0", "[" * 100_000],
)
def test_damaged_results_are_not_replaced(tested, again, content):
    *_, folder = tested
    (folder / "test_metrics.json").write_text(content)

    with pytest.raises(UserError, match=r"is damaged or incomplete"):
        again()
    assert (folder / "test_metrics.json").read_text() == content
