import json

import pytest

from lightning_cnn.export.agreement import Agreement
from lightning_cnn.export.card import as_text, model_card
from lightning_cnn.run import Run

SHA = "ab" * 32
METADATA = {
    "class_names": ["cat", "dog|cow", "<b>"],
    "image_shape": [3, 20, 28],
    "parameters": 1234567,
    "checkpoint_sha256": SHA,
    "preprocessing": {"mean": [0.5, 0.25, 0.125], "std": 0.5},
    "framing": {"size": [20, 28], "mode": "pad", "channels": 3},
    "metrics": {"val/acc": 0.625, "val/loss": 0.5, "train/acc": 1.0},
    "versions": {"torch": "2.10"},
    "config": {
        "model": {
            "class_path": "lightning_cnn.classifiers.ImageClassifier",
            "init_args": {
                "network": {"class_path": "my.Net", "init_args": {"width": 8}},
                "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1, "nesterov": False}},
            },
        },
        "data": {"class_path": "lightning_cnn.data.ImageFolderDataModule", "init_args": {"batch_size": 32}},
        "trainer": {"max_epochs": 3, "precision": "32-true"},
        "seed_everything": 7,
    },
}
AGREEMENT = Agreement("photos", "test", 1000, 1000, 3e-7, 0.875, 0.875)


def test_the_card_has_the_figures_of_the_run(tmp_path):
    card = model_card(METADATA, "onnx", "photos.onnx", AGREEMENT, Run(tmp_path))

    for expected in (
        "# Net on photos\n",
        "20×28 RGB images into 3 classes, with 1,234,567 parameters",
        f"SHA-256 `{SHA}`",
        "| 1,000 test images of photos | accuracy of this file | 87.50 % |",
        "| validation images, in training | val/acc | 62.50 % |",
        "| validation images, in training | val/loss | 0.5000 |",
        "1,000 of 1,000 predicted classes equal, largest difference of a probability 3e-07",
        "the mean [0.5, 0.25, 0.125] is subtracted",
        "the whole image, on black",
        "| model.optimizer | SGD(lr=0.1) |",
        "| data.batch\\_size | 32 |",
        "| trainer.max\\_epochs | 3 |",
        "| seed\\_everything | 7 |",
        "- torch 2.10",
        'onnxruntime.InferenceSession("photos.onnx")',
        "np.zeros((1, 3, 20, 28), np.uint8)",
        "## Limits",
    ):
        assert expected in card
    assert "train/acc" not in card and "test/acc" not in card


def test_names_of_classes_do_not_change_the_page(tmp_path):
    card = model_card(METADATA, "onnx", "a.onnx", AGREEMENT, Run(tmp_path))

    assert "1. dog\\|cow\n2. \\<b\\>\n" in card
    assert as_text("a\nb\x1b[31m") == "a\\\\nb\\\\x1b\\[31m"


@pytest.mark.parametrize(("sha256", "is_shown"), [(SHA, True), ("cd" * 32, False)])
def test_a_test_is_shown_if_it_was_one_of_this_checkpoint(tmp_path, sha256, is_shown):
    run = Run(tmp_path)
    record = {"test/acc": 0.75, "images": 12, "checkpoint_sha256": sha256, "data": {"dataset": "MNIST", "sample": True}}
    run.test_metrics_file.write_text(json.dumps(record))

    card = model_card(METADATA, "safetensors", "a.safetensors", None, run)

    assert ("| 12 test images, by the command test | test/acc | 75.00 % |" in card) == is_shown
    assert ("# Net on MNIST" in card) == is_shown
    assert ("only the small sample of MNIST" in card) == is_shown
    assert "all weights are those of the checkpoint, to the bit" in card
    assert "; `lightning-cnn` does so.\n" in card  # the file has the weights alone


def test_weights_alone_take_images_that_are_normalised_already(tmp_path):
    card = model_card({**METADATA, "framing": None}, "state_dict", "a.pth", None, Run(tmp_path))

    assert "Images, float32 `(batch, 3, 20, 28)`." in card and "the file does not do so" in card
    assert "is not recorded" in card


def test_of_many_classes_some_are_named(tmp_path):
    names = [f"class {number}" for number in range(1500)]
    card = model_card({**METADATA, "class_names": names}, "onnx", "a.onnx", AGREEMENT, Run(tmp_path))

    assert "199. class 199\n" in card and "class 200" not in card and "and 1,300 more." in card


@pytest.mark.parametrize("arguments", [None, "evil", ["evil"], {"network": {}}, {"network": "evil"}, {"network": None}])
@pytest.mark.parametrize("section", ["model", "data"])
def test_a_config_of_a_stranger_makes_a_card_all_the_same(tmp_path, section, arguments):
    config = {**METADATA["config"], section: {"class_path": "their.Thing", "init_args": arguments}}

    assert "# " in model_card({**METADATA, "config": config}, "onnx", "a.onnx", AGREEMENT, Run(tmp_path))


def test_arguments_that_are_no_mapping_are_left_out(tmp_path):
    optimizer = {"class_path": "their.SGD", "init_args": [1]}
    config = {**METADATA["config"], "model": {"class_path": "their.Net", "init_args": {"optimizer": optimizer}}}

    assert "| model.optimizer | SGD() |" in model_card(
        {**METADATA, "config": config}, "onnx", "a.onnx", AGREEMENT, Run(tmp_path)
    )
