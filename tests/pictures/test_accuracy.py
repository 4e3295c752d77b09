"""The table of `scripts/pictures_accuracy`."""

import re
import sys

import numpy as np
import pytest
from pictures.kinds import CLOTHES, DIGITS, KINDS
from PIL import Image
from script import load

from lightning_cnn.data import sources
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.predict.pipeline import Predictor
from lightning_cnn.predict.prediction import min_confidence

FACTS = {DIGITS: MNIST, CLOTHES: FASHION_MNIST}


class Nearest(Predictor):
    """In place of a network: the class of the image with the highest correlation."""

    def __init__(self, facts):
        self.class_names, self.framing, self.image_shape = facts.classes, facts.framing, (1, 28, 28)
        self.min_confidence = min_confidence(facts.framing)
        sample = sources.load_sample(facts)
        self.images, self.labels = sample.test_images.reshape(-1, 784) / np.float32(255), sample.test_labels

    def probabilities(self, images):
        norms = np.linalg.norm(self.images, axis=1)
        best = (images.reshape(-1, 784).astype(np.float32) @ self.images.T / norms).argmax(axis=1)
        return np.eye(10)[self.labels[best]] * 0.99


@pytest.fixture
def accuracy(monkeypatch, capsys):
    """Run the script on the samples that ship with the package, and return its rows and what follows them."""
    script = load("pictures_accuracy")
    samples = {subject: sources.load_sample(facts) for subject, facts in FACTS.items()}
    named = {
        subject: (sample.test_images, [FACTS[subject].classes[label] for label in sample.test_labels])
        for subject, sample in samples.items()
    }
    monkeypatch.setattr(script, "images_of", lambda subject, part: named[subject])
    monkeypatch.setattr(script, "_predictor", {"digits": Nearest(MNIST), "clothes": Nearest(FASHION_MNIST)}.get)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["pictures_accuracy", *arguments])
        script.main()
        _, _, *rows = capsys.readouterr().out.splitlines()
        end = rows.index("")
        return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[:end]], rows[end + 1 :]

    run.script = script
    return run


def test_each_kind_has_a_row(accuracy, tmp_path):
    kinds = ("black_on_white", "clothes_cut_out")
    flags = ("--kinds", *kinds, "--num_images", "5", "--folder", str(tmp_path / "drawn"))

    rows, (packages, command) = accuracy("digits", "--fashion", "clothes", *flags)

    assert [row[0] for row in rows] == ["black on white", "clothes cut out", "all"]
    assert rows[0][1:6] == ["100.0", "0.0", "0.0", "–", "–"]
    assert float(rows[0][6]) > 0
    assert {path.parent.name: len(list(path.parent.iterdir())) for path in tmp_path.glob("drawn/*/*")} == dict.fromkeys(
        kinds, 5
    )
    assert re.match(r"lightning-cnn \S+, torch \S+, numpy ", packages)
    assert command == f"pictures_accuracy digits --fashion clothes {' '.join(flags)}"


def test_clothes_are_left_out_without_a_checkpoint_for_them(accuracy, monkeypatch):
    monkeypatch.setattr(accuracy.script, "KINDS", {name: KINDS[name] for name in ("own_28px", "clothes_on_white")})

    rows, _ = accuracy("digits", "--num_images", "1")

    assert [row[0] for row in rows] == ["own 28px", "all"]


def test_the_cells_of_a_row(accuracy):
    answer = accuracy.script.Answer
    answers = [
        *[answer(True, "3", 0.9)] * 5,
        answer(True, "3", 0.6, unclear="several marks"),
        answer(False, "4", 0.7),
        answer(False, "5", 0.5, unclear="several marks"),
        *[answer(False)] * 2,
    ]

    assert accuracy.script.row("some", answers, 0.5) == "| some | 60.0 | 16.7 | 20.0 | 75.0 | 60.0 | 50.0 |"


def test_being_told_that_nothing_is_there_is_right(accuracy):
    kind, path = KINDS["blank_shadow"], "nothing.png"
    Image.new("L", (50, 50), 200).save(path)

    (answer,) = accuracy.script.read(Nearest(MNIST), kind, {path: "7"})

    assert (answer.right, answer.predicted) == (True, "")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--kinds", "dusty"], "there is no kind 'dusty'"),
        (["--num_images", "0"], "--num_images must be at least 1, got 0"),
        (["--kinds", "clothes_on_wood"], "clothes need --fashion"),
    ],
)
def test_invalid_arguments_are_refused(accuracy, capsys, arguments, reason):
    with pytest.raises(SystemExit) as left:
        accuracy("digits", *arguments)

    assert left.value.code == 2
    assert reason in capsys.readouterr().err
