import csv
import gc
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

import lightning_cnn as lc
from lightning_cnn.data import FashionMNISTDataModule
from lightning_cnn.predict.prediction import Prediction, PredictionList
from lightning_cnn.predict.trained import TrainedClassifier


@pytest.fixture
def classifier(run) -> TrainedClassifier:
    return lc.load(run)


@pytest.fixture
def images(tiny_data) -> np.ndarray:
    """The 100 test images, `(N, H, W)`."""
    data = FashionMNISTDataModule()
    data.setup("test")
    return data.test_set.images[:, 0].numpy()


@pytest.fixture
def files(images) -> list[str]:
    """The first ten of them as files."""
    Path("in").mkdir()
    for number, image in enumerate(images[:10]):
        Image.fromarray(image).save(f"in/{number}.png")
    return sorted(f"in/{name}" for name in os.listdir("in"))  # noqa: PTH208


def same(predictions: PredictionList, probabilities: np.ndarray) -> bool:
    return np.allclose(predictions.probabilities, probabilities, rtol=0, atol=1e-6)


# Loading


def test_every_reference_to_a_checkpoint_loads_the_same_weights(run, images, cli):
    assert cli("export", run, "--output", "weights.safetensors").status == 0
    references = (
        *("best", str(run), run, run / "checkpoints" / "best.ckpt", str(run / "checkpoints" / "best.ckpt")),
        Path("weights.safetensors"),
    )

    answers = [lc.load(reference)(images[:5]) for reference in references]

    assert all(np.array_equal(answer, answers[0]) for answer in answers)
    assert np.array_equal(lc.load()(images[:5]), answers[0])


def test_it_says_what_it_classifies(classifier, run):
    assert classifier.class_names == list(FashionMNISTDataModule().class_names)
    assert classifier.image_shape == (1, 28, 28)
    assert classifier.checkpoint == run / "checkpoints" / "best.ckpt"
    assert repr(classifier) == (
        f"TrainedClassifier('{run}/checkpoints/best.ckpt', 10 classes, image_shape=(1, 28, 28))"
    )


def test_a_missing_checkpoint_is_one_clear_line():
    with pytest.raises(lc.UserError, match=r"^checkpoint no.ckpt does not exist; give a file, a run folder"):
        lc.load("no.ckpt")
    with pytest.raises(lc.UserError, match=r"^no matching run has a checkpoint best.ckpt; train with `fit` first"):
        lc.load()


def test_objects_of_the_user_are_not_frozen(run, unfrozen):
    lc.load(run)

    assert gc.get_freeze_count() == 0


# Probabilities of images like those of the dataset


def test_a_call_gives_the_probabilities_of_the_test(run, images, cli):
    assert cli("test", "--ckpt_path", run).status == 0
    with (run / "test_predictions.csv").open(newline="") as file:
        tested = list(csv.DictReader(file))
    classifier = lc.load(run)

    probabilities = classifier(images)

    assert probabilities.shape == (100, 10) and probabilities.dtype == np.float32
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(100), abs=1e-5)
    assert [classifier.class_names[label] for label in probabilities.argmax(axis=1)] == [r["predicted"] for r in tested]
    assert probabilities.max(axis=1) == pytest.approx([float(row["confidence"]) for row in tested], abs=2e-6)


def test_arrays_and_tensors_of_every_layout_give_the_same(classifier, images):
    grey = images[:4]
    given = (
        *(grey[:, None], grey[..., None], grey / np.float32(255), torch.from_numpy(grey), torch.from_numpy(grey) / 255),
        default_collate([(torch.from_numpy(image)[None] / 255, 0) for image in grey])[0],
    )

    expected = classifier(grey)

    assert all(np.array_equal(classifier(batch), expected) for batch in given)
    assert np.allclose(np.concatenate([classifier(image) for image in grey]), expected, atol=1e-6)
    assert np.allclose(np.concatenate([classifier(image[None]) for image in grey]), expected, atol=1e-6)


def test_a_large_batch_is_split(classifier, images, monkeypatch):
    whole = classifier(images[:20])
    monkeypatch.setattr("lightning_cnn.predict.trained._BATCH", 7)

    assert np.allclose(classifier(images[:20]), whole, rtol=0, atol=1e-6)
    assert classifier(images[:0]).shape == (0, 10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((5, 32, 32), np.uint8), r"of the shape \(1, 28, 28\), got the shape \(5, 32, 32\); use `predict`"),
        (np.zeros((2, 3, 28, 28), np.uint8), r"got the shape \(2, 3, 28, 28\)"),
        (np.zeros(784, np.uint8), r"got the shape \(784,\)"),
        ("digit.png", "got str; use `predict` for files"),
        ([[0]], "got list"),
        (np.zeros((28, 28), np.int64), r"must be uint8 \(0 to 255\) or floating point \(0 to 1\), got int64"),
    ],
)
def test_other_images_are_refused(classifier, given, message):
    with pytest.raises(lc.UserError, match=message):
        classifier(given)


# Predictions for pictures


def test_one_picture_gives_one_prediction(classifier, images, files):
    array = images[0]
    given = (files[0], Path(files[0]), array, array[None], array / 255, torch.from_numpy(array), Image.open(files[0]))

    found = [classifier.predict(picture) for picture in given]

    assert all(isinstance(prediction, Prediction) for prediction in found)
    assert [prediction.file for prediction in found] == [files[0], files[0], *["[0]"] * 4, files[0]]
    assert all(np.array_equal(prediction.seen, array[None]) for prediction in found)
    assert same(PredictionList(found), np.repeat(classifier(array), len(given), axis=0))


def test_several_pictures_give_a_list(classifier, images, files):
    given = ("in", "in/*.png", files, iter(files), images[:10], [*images[:10]], [Image.open(file) for file in files])

    found = [classifier.predict(pictures) for pictures in given]

    assert all(isinstance(predictions, PredictionList) and len(predictions) == 10 for predictions in found)
    assert all(same(predictions, classifier(images[:10])) for predictions in found)
    assert [prediction.file for prediction in found[0]] == files


def test_a_list_of_one_and_nothing_at_all_are_lists(classifier, files):
    assert isinstance(classifier.predict(files[:1]), PredictionList)
    assert classifier.predict([]) == []


def test_a_picture_is_framed_like_a_file(classifier, cli):
    picture = Image.new("RGB", (90, 60), "white")
    picture.paste("black", (40, 10, 60, 50))
    picture.save("a.png")
    assert cli("predict", classifier.checkpoint, "a.png", "--output", "out.json").status == 0

    found = classifier.predict(np.asarray(picture))

    assert found.seen.shape == (1, 28, 28) and found.seen.max() == 255 and found.seen[0, 0, 0] == 0
    assert f'"predicted": "{found.label}"' in Path("out.json").read_text()
    assert np.array_equal(found.original, np.asarray(picture)) and found.foreground is not None
    whole = classifier.predict(picture, crop=False)
    assert not np.array_equal(whole.seen, found.seen)
    assert np.array_equal(classifier.predict(picture, crop=False, invert=False).seen, 255 - whole.seen)


def test_every_page_of_a_file_is_a_prediction(classifier, images):
    pages = [Image.fromarray(image) for image in images[:3]]
    pages[0].save("scan.tiff", save_all=True, append_images=pages[1:])

    found = classifier.predict("scan.tiff")

    assert isinstance(found, PredictionList)
    assert [prediction.file for prediction in found] == ["scan.tiff[1]", "scan.tiff[2]", "scan.tiff[3]"]


def test_only_the_first_images_of_many_are_kept_as_thumbnails(classifier, images):
    found = classifier.predict(images[:20])

    assert [prediction.original is not None for prediction in found] == [True] * 16 + [False] * 4


# Images that cannot be read


@pytest.fixture
def damaged(files) -> list[str]:
    Path("in/3.png").write_bytes(Path("in/3.png").read_bytes()[:60])
    Image.new("L", (50, 50)).save("in/5.png")
    return files


def test_the_first_damaged_image_ends_it(classifier, damaged):
    for given in ("in", damaged, "in/3.png"):
        with pytest.raises(lc.UserError, match=r"^in/3.png: damaged or truncated; save or copy it again$"):
            classifier.predict(given)
    second_is_blank = np.zeros((2, 50, 50), np.uint8)
    second_is_blank[0, 10:40, 20:30] = 255
    with pytest.raises(lc.UserError, match=r"^\[1\]: blank: all its pixels are alike"):
        classifier.predict(second_is_blank)


def test_damaged_images_are_left_out_with_a_warning(classifier, damaged):
    with pytest.warns(UserWarning, match=r"^left out: in/") as caught:
        found = classifier.predict("in", on_error="skip")

    assert [prediction.file for prediction in found] == [
        name for name in damaged if name not in ("in/3.png", "in/5.png")
    ]
    assert [str(warning.message).partition(" (")[0].split(": ")[1] for warning in caught] == ["in/3.png", "in/5.png"]
    assert {warning.filename for warning in caught} == {__file__}


def test_a_single_image_cannot_be_left_out(classifier, damaged):
    with pytest.raises(lc.UserError, match="damaged"):
        classifier.predict("in/3.png", on_error="skip")
    with pytest.raises(lc.UserError, match=r"^no.png: does not exist"):
        classifier.predict("no.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_error": "skipp"}, "on_error must be fail or skip, got 'skipp'; did you mean 'skip'?"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
    ],
)
def test_a_wrong_argument_is_refused(classifier, files, options, message):
    with pytest.raises(lc.UserError) as raised:
        classifier.predict(files, **options)
    assert str(raised.value) == message


def test_whole_images_are_not_framed(run, files):
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    content["lightning_cnn"]["framing"] = {"size": [28, 28], "mode": "crop", "channels": 1}
    torch.save(content, "whole.ckpt")

    classifier = lc.load("whole.ckpt")

    assert len(classifier.predict(files)) == 10
    with pytest.raises(lc.UserError, match="invert is for images that are framed by their foreground"):
        classifier.predict(files, invert=True)


def test_a_network_of_the_user_is_named(run, user_module):
    name = user_module("own", "from lightning_cnn.networks import MLP as OwnMLP\n")

    assert lc.load(run, model="MLPClassifier").class_names[0] == "T-shirt/top"
    with pytest.raises(lc.UserError, match=f"^--model {name}.Missing: there is no such class"):
        lc.load(run, model=f"{name}.Missing")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"invert": "false"}, "invert must be True, False or None, got 'false'"),
        ({"crop": 0}, "crop must be True, False or None, got 0"),
        ({"batch_size": "3"}, "batch_size must be a whole number of at least 1, got '3'"),
    ],
)
def test_options_of_another_type_are_refused(options, message):
    with pytest.raises(lc.UserError, match=f"^{message}$"):
        lc.load("mnist").predict(np.zeros((28, 28), np.uint8), **options)
