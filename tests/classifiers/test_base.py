import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from lightning_cnn.classifiers import CNNClassifier, ImageClassifier, MLPClassifier, SimpleCNNClassifier
from lightning_cnn.data import FashionMNISTDataModule, MNISTDataModule
from lightning_cnn.errors import UserError


class Table(nn.Module):
    """Returns row i of a table of logits for an image whose first pixel is i."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits[(images[:, 0, 0, 0] * 255).round().long()]


def linear_classifier(**options) -> ImageClassifier:
    return ImageClassifier(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), **options)


# Ten images, seven of class 0, each with the probability of its true class; the other two classes share the rest
# evenly, so that predictions above a third are correct.
TARGETS = [0, 0, 0, 0, 0, 0, 0, 1, 1, 2]
TRUE_PROBABILITIES = [0.5, 0.9, 0.6, 0.4, 0.8, 0.7, 0.5, 0.6, 0.2, 0.1]
ACCURACY = 8 / 10  # micro; macro would be (7/7 + 1/2 + 0/1) / 3
LOSS = -sum(map(math.log, TRUE_PROBABILITIES)) / 10


@pytest.fixture
def known() -> ImageClassifier:
    """A classifier that predicts image i with the probability i above."""
    table = torch.tensor([[(1 - p) / 2] * 3 for p in TRUE_PROBABILITIES])
    table[range(10), TARGETS] = torch.tensor(TRUE_PROBABILITIES)
    return ImageClassifier(Table(table.log()), lambda parameters: SGD(parameters, lr=0), num_classes=3)


def known_images(batch_size: int) -> DataLoader:
    images = torch.arange(10, dtype=torch.uint8).reshape(10, 1, 1, 1).expand(10, 1, 28, 28)
    return DataLoader(TensorDataset(images, torch.tensor(TARGETS)), batch_size)


# Preprocessing


def test_preprocessing_scales_then_normalises():
    classifier = linear_classifier(mean=0.2, std=0.5)
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 1, 28, 28)

    seen = classifier.preprocess(images)

    assert seen.shape == (3, 1, 28, 28)
    assert seen.dtype == torch.float32
    assert seen[:, 0, 5, 5].tolist() == pytest.approx([-0.4, 0.0, 1.6], abs=1e-6)


def test_the_input_of_the_network_is_preprocessed():
    classifier = linear_classifier(mean=0.2, std=0.5)
    images = torch.randint(256, (2, 1, 28, 28), dtype=torch.uint8)

    assert torch.equal(classifier(images), classifier.network(classifier.preprocess(images)))


def test_the_state_dict_contains_the_preprocessing():
    weights = linear_classifier(mean=0.25, std=0.5).state_dict()
    other = linear_classifier()

    assert (weights["mean"].item(), weights["std"].item()) == (0.25, 0.5)
    other.load_state_dict(weights)
    assert (other.mean.item(), other.std.item()) == (0.25, 0.5)


def test_the_network_is_kept_and_converted_to_channels_last():
    network = nn.Sequential(nn.Conv2d(8, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    layers, weight = list(network), network[0].weight.detach().clone()

    classifier = ImageClassifier(network)

    assert classifier.network is network
    assert list(network) == layers
    assert torch.equal(network[0].weight, weight)
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not network[0].weight.is_contiguous()


# Class names


def test_class_names_are_those_of_the_data_or_indices(tiny_data, trainer):
    classifier = MLPClassifier()
    trainer().validate(classifier, datamodule=FashionMNISTDataModule(val_size=50), verbose=False)
    assert classifier.class_names == list(FashionMNISTDataModule.facts.classes)

    without_names = linear_classifier(num_classes=10)
    assert without_names.class_names[9] == "9"
    trainer().validate(without_names, known_images(4), verbose=False)
    assert without_names.class_names == ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]


# Metrics


@pytest.mark.parametrize("batch_size", [1, 4, 10])  # of four: 4, 4 and 2
@pytest.mark.parametrize("stage", ["val", "test"])
def test_loss_and_accuracy_equal_a_hand_count(known, trainer, stage, batch_size):
    evaluate = {"val": trainer().validate, "test": trainer().test}[stage]

    (metrics,) = evaluate(known, known_images(batch_size), verbose=False)

    assert metrics == {f"{stage}/loss": pytest.approx(LOSS), f"{stage}/acc": pytest.approx(ACCURACY)}


def test_training_metrics_equal_a_hand_count(known, trainer):
    run = trainer(num_sanity_val_steps=0)
    run.fit(known, known_images(4), known_images(3))

    assert {name: value.item() for name, value in run.callback_metrics.items()} == {
        "train/loss": pytest.approx(LOSS),
        "train/acc": pytest.approx(ACCURACY),
        "val/loss": pytest.approx(LOSS),
        "val/acc": pytest.approx(ACCURACY),
    }


def test_metrics_are_reset_each_epoch(known, trainer):
    run = trainer(max_epochs=3)  # with sanity validation
    run.fit(known, known_images(4), known_images(3))

    assert run.callback_metrics["train/acc"].item() == pytest.approx(ACCURACY)
    assert run.callback_metrics["val/acc"].item() == pytest.approx(ACCURACY)
    assert run.callback_metrics["val/loss"].item() == pytest.approx(LOSS)


def test_evaluation_is_in_eval_mode_without_gradients(known, trainer):
    modes = []
    known.network.register_forward_hook(lambda network, *_: modes.append((network.training, torch.is_grad_enabled())))
    before = known.network.logits.clone()

    trainer().validate(known, known_images(4), verbose=False)
    trainer().test(known, known_images(4), verbose=False)

    assert modes == [(False, False)] * 6
    assert torch.equal(known.network.logits, before)


def test_the_step_loss_is_logged_every_n_steps(known, trainer, tmp_path):
    from lightning_cnn.callbacks.metrics_csv import MetricsCSV

    logger = MetricsCSV(tmp_path)
    trainer(logger=logger, log_every_n_steps=2).fit(known, known_images(2), known_images(4))

    header, *rows = [line.split(",") for line in logger.path.read_text().splitlines()]
    column = header.index("train/loss_step")
    steps = {int(row[1]): float(row[column]) for row in rows if row[column]}
    losses = -np.log(TRUE_PROBABILITIES)
    assert steps == {1: pytest.approx(losses[2:4].mean()), 3: pytest.approx(losses[6:8].mean())}


# Label smoothing


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_targets_are_smoothed_in_training_only(known, trainer, smoothing):
    known.label_smoothing = smoothing
    run = trainer()

    run.fit(known, known_images(4), known_images(4))

    smoothed = functional.cross_entropy(known.network.logits, torch.tensor(TARGETS), label_smoothing=smoothing)
    assert run.callback_metrics["train/loss"].item() == pytest.approx(smoothed.item(), rel=1e-5)
    assert run.callback_metrics["val/loss"].item() == pytest.approx(LOSS, rel=1e-5)


# Hyperparameters and checkpoints


def test_hyperparameters_are_plain_types():
    classifier = CNNClassifier(
        optimizer=lambda parameters: SGD(parameters, lr=0.1), scheduler=lambda o: StepLR(o, 1), mean=0.25
    )

    assert dict(classifier.hparams) == {"mean": 0.25, "std": 0.5, "num_classes": 10, "label_smoothing": 0.0}
    assert {type(value) for value in classifier.hparams.values()} == {float, int}


def test_a_checkpoint_alone_restores_the_classifier(tiny_data, trainer, tmp_path):
    classifier = CNNClassifier(mean=0.25)
    run = trainer()
    run.fit(classifier, datamodule=MNISTDataModule(val_size=50))
    run.save_checkpoint(tmp_path / "some.ckpt")
    images = torch.randint(256, (3, 1, 28, 28), dtype=torch.uint8)

    restored = CNNClassifier.load_from_checkpoint(tmp_path / "some.ckpt")

    assert restored.mean.item() == 0.25
    with torch.no_grad():
        assert torch.equal(restored(images), classifier(images))


def test_weights_of_another_architecture_are_refused(tiny_data, trainer, tmp_path):
    run = trainer()
    run.fit(CNNClassifier(), datamodule=MNISTDataModule(val_size=50))
    run.save_checkpoint(tmp_path / "cnn.ckpt")

    with pytest.raises(UserError, match=r"another architecture.*\(512,\).*\(128,\)"):
        SimpleCNNClassifier.load_from_checkpoint(tmp_path / "cnn.ckpt")


# Refused arguments and data


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"std": 0.0}, "std must be greater than 0, got 0.0"),
        ({"std": -0.5}, "std must be greater than 0, got -0.5"),
        ({"num_classes": 1}, "num_classes must be at least 2, got 1"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match="^" + message.replace(".", r"\.") + "$"):
        CNNClassifier(**options)


@pytest.mark.parametrize("num_classes", [3, 11])
def test_data_with_another_number_of_classes_is_refused(tiny_data, trainer, num_classes):
    with pytest.raises(UserError, match=f"num_classes {num_classes}, but the data has 10 classes"):
        trainer().fit(CNNClassifier(num_classes=num_classes), datamodule=MNISTDataModule(val_size=50))
