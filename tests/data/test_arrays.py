import re

import numpy as np
import pytest
import torch

from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.data import ArrayDataModule
from lightning_cnn.errors import UserError
from lightning_cnn.networks import CNN

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 6, 8), np.uint8)
COLOUR = RNG.integers(0, 256, (20, 3, 6, 8), np.uint8)
LABELS = np.arange(20) % 3


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize(("images", "shape"), [(GREY, (1, 6, 8)), (COLOUR, (3, 6, 8))])
def test_arrays_and_tensors_are_images(kind, images, shape):
    datamodule = ArrayDataModule(kind(images), kind(LABELS), kind(images[:4]), kind(LABELS[:4]), val_size=5)
    datamodule.setup()

    assert (datamodule.image_shape, datamodule.image_size, datamodule.num_classes) == (shape, (6, 8), 3)
    expected = images.reshape(20, *shape)
    seen = [
        (image.numpy(), int(label))
        for batch in datamodule.train_dataloader()
        for image, label in zip(*batch, strict=True)
    ]
    seen += [(image.numpy(), int(label)) for image, label in zip(*datamodule.val_set[:], strict=True)]
    assert sorted((a.tobytes(), n) for a, n in seen) == sorted(
        (image.tobytes(), int(label)) for image, label in zip(expected, LABELS, strict=True)
    )
    assert np.array_equal(datamodule.test_set[:][0].numpy(), expected[:4])
    assert (len(datamodule.train_set), len(datamodule.val_set), len(datamodule.test_set)) == (15, 5, 4)


def test_pixels_are_not_copied():
    datamodule = ArrayDataModule(COLOUR, LABELS)
    datamodule.setup("fit")

    assert datamodule.train_set.images.data_ptr() == datamodule.val_set.images.data_ptr() == COLOUR.ctypes.data


@pytest.mark.parametrize("images", [COLOUR[:, ::-1], COLOUR[..., ::-1], np.moveaxis(COLOUR, 1, -1).copy()])
def test_arrays_may_have_any_strides(images):
    if images.shape[-1] == 3:
        images = np.moveaxis(images, -1, 1)

    datamodule = ArrayDataModule(images, LABELS)
    datamodule.setup("fit")

    assert np.array_equal(datamodule.train_set[:][0].numpy(), images[datamodule.train_set.rows.numpy()])


def test_classes_have_names_or_numbers():
    assert ArrayDataModule(GREY, LABELS).class_names == ("0", "1", "2")
    assert ArrayDataModule(GREY, LABELS, GREY[:1], np.array([4])).num_classes == 5
    named = ArrayDataModule(GREY, LABELS, class_names=["a", "b", "c", "d"], name="mine")
    assert (named.class_names, named.num_classes, named.name, named.title) == (("a", "b", "c", "d"), 4, "mine", "mine")


def test_hyperparameters_have_no_arrays():
    hparams = ArrayDataModule(GREY, LABELS, GREY, LABELS, class_names=["a", "b", "c"]).hparams

    assert not {"images", "labels", "test_images", "test_labels"} & {*hparams}
    assert hparams["class_names"] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GREY / 255, LABELS), "images must be uint8 from 0 to 255, got float64; scale and convert them"),
        (
            (np.moveaxis(COLOUR, 1, -1), LABELS),
            "images must be (N, C, H, W), got (20, 6, 8, 3); use np.moveaxis(images, -1, 1)",
        ),
        ((GREY.reshape(20, 48), LABELS), "images must be (N, H, W) or (N, C, H, W), got (20, 48)"),
        ((GREY[:0], LABELS[:0]), "images must be (N, H, W) or (N, C, H, W), got (0, 6, 8)"),
        ((GREY, LABELS[:9]), "the labels of images must be 20 integers of at least 0, got int64 (9,)"),
        ((GREY, LABELS * 1.0), "the labels of images must be 20 integers of at least 0, got float64 (20,)"),
        ((GREY, LABELS - 1), "the labels of images must be 20 integers of at least 0, got int64 (20,)"),
        ((GREY, LABELS, GREY), "test_images and test_labels must be given together"),
        ((GREY, LABELS, None, LABELS), "test_images and test_labels must be given together"),
        (
            (GREY, LABELS, COLOUR, LABELS),
            "test_images must have the shape of images, (1, 6, 8), got (3, 6, 8)",
        ),
        ((GREY, LABELS, GREY * 1.0, LABELS), "test_images must be uint8 from 0 to 255, got float64; scale and convert"),
        ((GREY, LABELS, None, None, ["a"]), "labels must be below the number of class_names, 1, got 2"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        ArrayDataModule(*arguments)


def test_without_test_images_only_a_test_is_refused():
    datamodule = ArrayDataModule(GREY, LABELS)
    datamodule.setup("fit")
    assert [datamodule.has_images(part) for part in ("train", "val", "test")] == [True, True, False]
    with pytest.raises(UserError, match=r"^there are no test images; give test_images and test_labels$"):
        datamodule.setup("test")


def test_a_test_does_not_need_validation_images():
    ArrayDataModule(GREY[:4], LABELS[:4], GREY, LABELS).setup("test")


def test_arrays_train_with_lightnings_trainer(trainer):
    images = RNG.integers(0, 64, (60, 3, 12, 12), np.uint8)
    labels = np.arange(60) % 2
    images[labels == 1] += 128
    datamodule = ArrayDataModule(images, labels, images[:20], labels[:20], class_names=["dark", "light"], batch_size=10)
    model = ImageClassifier(
        CNN(in_channels=3, image_size=12, num_classes=2), in_channels=3, image_size=12, num_classes=2
    )
    run = trainer(max_epochs=4)

    run.fit(model, datamodule=datamodule)
    (metrics,) = run.test(model, datamodule=datamodule, verbose=False)

    assert metrics["test/acc"] == 1
    assert datamodule.record == {"dataset": "images", "origin": "memory", "sample": False}


def test_arrays_that_cannot_be_written_are_only_read():
    images = GREY.copy()
    images.flags.writeable = False
    datamodule = ArrayDataModule(images, LABELS)
    datamodule.setup("fit")

    assert datamodule.train_set.images.data_ptr() == images.ctypes.data
