import math
import os
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.fabric import Fabric
from lightning.pytorch import LightningDataModule
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.nn import functional
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassF1Score

from lightning_cnn.classifiers import CNNClassifier, ImageClassifier, MLPClassifier, SimpleCNNClassifier
from lightning_cnn.classifiers.views import mean_logits
from lightning_cnn.data import ArrayDataModule, FashionMNISTDataModule, MNISTDataModule
from lightning_cnn.errors import DivergenceError, UserError
from lightning_cnn.networks import ThreeStageCNN


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floating_point_images_are_scaled_already(dtype):
    classifier = linear_classifier(mean=0.2, std=0.5)
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 1, 28, 28)

    seen = classifier.preprocess((images / 255).to(dtype))  # such as torchvision's `ToTensor` makes them

    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen, classifier.preprocess(images), atol=0.01 if dtype.itemsize == 2 else 1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.int32, torch.int64, torch.complex64])
def test_images_of_another_type_are_refused(dtype):
    message = rf"^images must be torch\.uint8 \(0 to 255\) or floating point \(0 to 1\), got {dtype}; .*"
    with pytest.raises(UserError, match=message):
        linear_classifier()(torch.zeros(2, 1, 28, 28, dtype=dtype))


@pytest.mark.parametrize("precision", ["16-true", "bf16-true", "64-true", "32-true", "bf16-mixed"])
@pytest.mark.parametrize("as_floats", [False, True])
def test_both_kinds_of_images_give_the_same_metrics_in_any_precision(trainer, precision, as_floats):
    torch.manual_seed(0)
    classifier = linear_classifier()
    images = torch.randint(256, (8, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    loader = DataLoader(TensorDataset(images / 255 if as_floats else images, torch.arange(8)), batch_size=4)

    (metrics,) = trainer(precision=precision).validate(classifier, loader, verbose=False)

    with torch.no_grad():
        loss = functional.cross_entropy(classifier.float()(images), torch.arange(8))
    assert metrics["val/loss"] == pytest.approx(loss.item(), abs=0.05 if "16" in precision else 1e-5)


def test_an_export_takes_the_type_of_its_example():
    classifier = linear_classifier(mean=0.2, std=0.5).eval()
    images = torch.randint(256, (2, 1, 28, 28), dtype=torch.uint8)

    for example in (images, images / 255):
        exported = torch.export.export(classifier, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.testing.assert_close(exported.module()(example[:2]), classifier(images[:2]))


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


def test_predictions_are_the_probabilities_of_the_test_images(tiny_data, trainer):
    classifier, datamodule = MLPClassifier(), MNISTDataModule(val_size=50, eval_batch_size=60)

    predictions = trainer().predict(classifier, datamodule=datamodule)

    with torch.no_grad():
        expected = classifier(datamodule.test_set.images).softmax(dim=1)
    assert [len(batch) for batch in predictions] == [60, 40]
    torch.testing.assert_close(torch.cat(predictions), expected)
    images = DataLoader(datamodule.test_set.images, batch_size=50)  # without targets
    torch.testing.assert_close(torch.cat(trainer().predict(classifier, images)), expected)


class Closures(torch.optim.SGD):
    """Evaluates each batch once more than the one before; LBFGS does it up to twenty times."""

    evaluations = 0

    def step(self, closure):
        for _ in range(self.evaluations):
            closure()
        self.evaluations += 1
        return super().step(closure)


def test_training_metrics_have_each_batch_once_however_often_it_is_evaluated(known, trainer):
    known.optimizer = lambda parameters: Closures(parameters, lr=0)
    run = trainer(max_epochs=2)
    run.fit(known, known_images(4), known_images(3))
    again = trainer()  # begins at the same step and batch
    again.fit(known, known_images(10), known_images(3))

    for metrics in (run.callback_metrics, again.callback_metrics):
        assert metrics["train/acc"].item() == pytest.approx(ACCURACY)
        assert metrics["train/loss"].item() == pytest.approx(LOSS)


def test_without_a_trainer_a_training_step_returns_the_loss(known):
    images, targets = next(iter(known_images(10)))

    assert known.training_step((images, targets), 0).item() == pytest.approx(LOSS)


def test_fabric_trains(tiny_data):
    fabric = Fabric(accelerator="cpu", devices=1)
    datamodule = MNISTDataModule(val_size=50)
    datamodule.setup("fit")
    module = MLPClassifier()
    model, optimizer = fabric.setup(module, SGD(module.parameters(), lr=0.1))
    losses = []
    for _ in range(2):
        for number, batch in enumerate(fabric.setup_dataloaders(datamodule.train_dataloader())):
            loss = model.training_step(batch, number)
            fabric.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())

    assert len(losses) == 6
    assert losses[-1] < losses[0]


def test_metrics_are_not_logged_with_log_every_n_steps_0(known, trainer):
    run = trainer(log_every_n_steps=0)
    run.fit(known, known_images(4), known_images(3))

    assert "train/loss_step" not in run.callback_metrics
    assert run.callback_metrics["train/acc"].item() == pytest.approx(ACCURACY)


def test_a_compiled_classifier_is_trained_by_the_stock_trainer(known, trainer):
    compiled_graphs = []

    def backend(graph, example_inputs):
        compiled_graphs.append(graph)
        return graph.forward

    run = trainer(num_sanity_val_steps=0)
    run.fit(torch.compile(known, backend=backend), known_images(1), known_images(1))

    assert run.callback_metrics["train/acc"].item() == pytest.approx(ACCURACY)
    assert run.callback_metrics["val/acc"].item() == pytest.approx(ACCURACY)
    assert len(compiled_graphs) <= 4  # for the first batch, and for all others, of training and validation
    # With inductor, a loss that a graph also returns without its gradient has none at all.
    assert not [node for graph in compiled_graphs for node in graph.graph.nodes if node.target == "detach"]


# Label smoothing


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_targets_are_smoothed_in_training_only(known, trainer, smoothing):
    known.label_smoothing = smoothing
    run = trainer()

    run.fit(known, known_images(4), known_images(4))

    smoothed = functional.cross_entropy(known.network.logits, torch.tensor(TARGETS), label_smoothing=smoothing)
    assert run.callback_metrics["train/loss"].item() == pytest.approx(smoothed.item(), rel=1e-5)
    assert run.callback_metrics["val/loss"].item() == pytest.approx(LOSS, rel=1e-5)


# Statistics of each channel


@pytest.mark.parametrize("of", [list, tuple])
def test_each_channel_has_its_statistics(of):
    mean, std = of((0.0, 0.2, 0.4)), of((1.0, 0.5, 0.1))
    classifier = ImageClassifier(nn.Flatten(), mean=mean, std=std, in_channels=3, image_size=(2, 3))
    images = torch.randint(256, (4, 3, 2, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    seen = classifier.preprocess(images)

    channels = [(images[:, c] / 255 - mean[c]) / std[c] for c in range(3)]
    torch.testing.assert_close(seen, torch.stack(channels, dim=1))
    torch.testing.assert_close(classifier.preprocess(images / 255), seen)
    assert classifier.image_shape == (3, 2, 3)
    assert classifier.hparams["mean"] == [0.0, 0.2, 0.4]


# Weights of the classes

WEIGHTS = [0.5, 2.0, 4.0]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_weights_are_those_of_torch(known, smoothing):
    classifier = ImageClassifier(known.network, num_classes=3, class_weights=WEIGHTS, label_smoothing=smoothing)
    images, targets = next(iter(known_images(10)))

    loss = classifier.training_step((images, targets), 0)

    expected = nn.CrossEntropyLoss(weight=torch.tensor(WEIGHTS), label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected(classifier(images), targets))


def test_class_weights_become_a_tensor_once(known, monkeypatch):
    classifier = ImageClassifier(known.network, num_classes=3, class_weights=WEIGHTS)
    made = []
    new_tensor = torch.Tensor.new_tensor
    monkeypatch.setattr(torch.Tensor, "new_tensor", lambda self, *args: made.append(args) or new_tensor(self, *args))

    for batch in known_images(5):
        classifier.training_step(batch, 0)
    classifier.double().training_step(batch, 0)

    assert len(made) == 2  # one for each precision
    assert not any("weight" in name for name, _ in classifier.named_buffers())


@pytest.mark.parametrize("batch_size", [1, 4, 10])
def test_the_training_loss_of_an_epoch_is_weighted_whatever_the_batches(known, trainer, batch_size):
    classifier = ImageClassifier(
        known.network, lambda parameters: SGD(parameters, lr=0), num_classes=3, class_weights=WEIGHTS
    )
    run = trainer()

    run.fit(classifier, known_images(batch_size), known_images(10))

    expected = functional.cross_entropy(known.network.logits, torch.tensor(TARGETS), weight=torch.tensor(WEIGHTS))
    assert run.callback_metrics["train/loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_validation_is_not_weighted(known, trainer):
    classifier = ImageClassifier(known.network, num_classes=3, class_weights=WEIGHTS)

    (metrics,) = trainer().validate(classifier, known_images(4), verbose=False)

    assert metrics["val/loss"] == pytest.approx(LOSS)


def test_a_batch_of_classes_without_weight_changes_nothing(known):
    classifier = ImageClassifier(known.network, num_classes=3, class_weights=[0.0, 1.0, 1.0])
    images, targets = next(iter(known_images(7)))  # all of class 0

    loss = classifier.training_step((images, targets), 0)
    loss.backward()

    assert loss.item() == 0
    assert classifier.network.logits.grad.abs().sum().item() == 0


class SomeImages(LightningDataModule):
    """Training images of unequal classes, as `ImageDataModule` has them."""

    train_set = TensorDataset(torch.zeros(10, 1, 28, 28, dtype=torch.uint8), torch.tensor(TARGETS))
    train_set.targets = torch.tensor(TARGETS)

    def train_dataloader(self):
        return DataLoader(self.train_set, 5)

    val_dataloader = train_dataloader


@pytest.mark.parametrize(("num_classes", "counts"), [(3, [7, 2, 1]), (4, [7, 2, 1, 0])])
def test_balanced_weights_are_those_of_scikit_learn(trainer, num_classes, counts):
    classifier = ImageClassifier(
        nn.Sequential(nn.Flatten(), nn.Linear(784, num_classes)), num_classes=num_classes, class_weights="balanced"
    )

    trainer(max_steps=1).fit(classifier, datamodule=SomeImages())

    # Its `compute_class_weight` divides the number of images by that of the classes times that of a class.
    assert classifier._class_weights.weights == [10 / (3 * count) if count else 0.0 for count in counts]


def test_balanced_weights_need_the_targets(trainer):
    with pytest.raises(UserError, match="class_weights balanced needs an ImageDataModule; give a list of weights"):
        trainer().fit(linear_classifier(class_weights="balanced"), known_images(4), known_images(4))


# Another loss and other metrics


def test_another_loss_is_used_in_all_stages(known, trainer):
    classifier = ImageClassifier(
        known.network, lambda parameters: SGD(parameters, lr=0), num_classes=3, loss=nn.MultiMarginLoss()
    )
    run = trainer()

    run.fit(classifier, known_images(4), known_images(3))
    (tested,) = trainer().test(classifier, known_images(4), verbose=False)

    expected = nn.MultiMarginLoss()(classifier.network.logits, torch.tensor(TARGETS)).item()
    found = [run.callback_metrics["train/loss"].item(), run.callback_metrics["val/loss"].item(), tested["test/loss"]]
    assert found == pytest.approx([expected] * 3)


class Raising(nn.Module):
    def forward(self, logits, targets):
        raise KeyError("weights")


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (nn.MultiMarginLoss(reduction="none"), r"--model.loss MultiMarginLoss must return a scalar, .* got \(2,\)"),
        (nn.Flatten(), r"--model.loss Flatten does not take logits \(B, 3\) and targets"),
        (Raising(), r"--model.loss Raising does not take logits \(B, 3\) and targets \(B,\): 'weights'; choose"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(known, loss, message):
    with pytest.raises(UserError, match=message):
        ImageClassifier(known.network, num_classes=3, loss=loss).require_fitting_network()


def test_other_metrics_are_logged_in_all_stages(known, trainer):
    f1 = {"f1": MulticlassF1Score}
    classifier = ImageClassifier(known.network, lambda parameters: SGD(parameters, lr=0), num_classes=3, metrics=f1)
    run = trainer(max_epochs=2)

    run.fit(classifier, known_images(4), known_images(3))
    (tested,) = trainer().test(classifier, known_images(4), verbose=False)

    expected = MulticlassF1Score(3)(classifier.network.logits, torch.tensor(TARGETS)).item()
    found = [run.callback_metrics["train/f1"].item(), run.callback_metrics["val/f1"].item(), tested["test/f1"]]
    assert found == pytest.approx([expected] * 3)


# Test-time augmentation


def test_views_are_averaged_outside_of_training():
    viewing = linear_classifier(test_time_flip=True, test_time_shift=1)
    images = torch.randint(256, (3, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    single = viewing.network(viewing.preprocess(images))

    expected = mean_logits(lambda views: viewing.network(viewing.preprocess(views)), images, flip=True, shift=1)
    assert torch.equal(viewing(images), single)  # in training
    assert torch.equal(viewing.eval()(images), expected)
    assert torch.equal(viewing.predict_step(images), expected.softmax(dim=1))


@pytest.mark.parametrize("shift", [-1, 20])
def test_an_image_is_not_shifted_out_of_sight(shift):
    with pytest.raises(ValueError, match=f"test_time_shift must be between 0 and 19, .* got {shift}"):
        ImageClassifier(ThreeStageCNN, image_size=(28, 20), test_time_shift=shift)


# Hyperparameters and checkpoints


def test_hyperparameters_are_plain_types():
    classifier = CNNClassifier(
        optimizer=lambda parameters: SGD(parameters, lr=0.1), scheduler=lambda o: StepLR(o, 1), mean=0.25
    )

    statistics, shape = {"mean": 0.25, "std": 0.5}, {"num_classes": 10, "in_channels": 1, "image_size": 28}
    others = {"label_smoothing": 0.0, "class_weights": None, "test_time_flip": False, "test_time_shift": 0}
    assert dict(classifier.hparams) == {**statistics, **shape, **others}


def test_loggers_get_the_hyperparameters_of_model_and_data(tiny_data, trainer, tmp_path):
    run = trainer(logger=CSVLogger(tmp_path, name="", version=""))
    run.fit(CNNClassifier(mean=0.25), datamodule=MNISTDataModule(val_size=50, batch_size=30))

    logged = yaml.safe_load((tmp_path / "hparams.yaml").read_text())
    assert (logged["mean"], logged["batch_size"], logged["val_size"]) == (0.25, 30, 50)


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


def small_net(num_classes, width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.Linear(width, num_classes))


def test_a_classifier_with_another_network_is_restored_with_that_network(trainer, tmp_path):
    weighted = nn.CrossEntropyLoss(torch.tensor(WEIGHTS))  # which the state dict has, and evaluation does not need
    classifier = ImageClassifier(
        partial(small_net, width=5), num_classes=3, mean=[0.25], test_time_flip=True, loss=weighted
    )
    run = trainer()
    run.fit(classifier, known_images(4), known_images(4))
    run.save_checkpoint(tmp_path / "some.ckpt")
    images = torch.randint(256, (3, 1, 28, 28), dtype=torch.uint8)

    restored = ImageClassifier.load_from_checkpoint(tmp_path / "some.ckpt", network=partial(small_net, width=5))

    assert (restored.num_classes, restored.test_time_flip) == (3, True)
    with torch.no_grad():
        assert torch.equal(restored.eval()(images), classifier.eval()(images))
    config = torch.load(tmp_path / "some.ckpt", weights_only=True)["lightning_cnn"]["config"]["model"]["init_args"]
    assert config["network"] == {"class_path": f"{small_net.__module__}.small_net", "init_args": {"width": 5}}


def test_a_checkpoint_cannot_name_what_is_called_as_its_network(trainer, tmp_path):
    run = trainer()
    run.fit(MLPClassifier(num_classes=3), known_images(4), known_images(4))
    run.save_checkpoint(tmp_path / "evil.ckpt")
    content = torch.load(tmp_path / "evil.ckpt", weights_only=True)
    content["hyper_parameters"]["network"] = {"class_path": "os.mkdir", "init_args": {"path": "made"}}
    torch.save(content, tmp_path / "evil.ckpt")

    for cls in (ImageClassifier, MLPClassifier):
        with pytest.raises((UserError, TypeError)):
            cls.load_from_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "made").exists()
    assert Path.cwd() == tmp_path and os.mkdir


def test_weights_of_another_architecture_are_refused(tiny_data, trainer, tmp_path):
    run = trainer()
    run.fit(CNNClassifier(), datamodule=MNISTDataModule(val_size=50))
    run.save_checkpoint(tmp_path / "cnn.ckpt")

    with pytest.raises(UserError, match=r"another architecture.*\(512,\).*\(128,\)"):
        SimpleCNNClassifier.load_from_checkpoint(tmp_path / "cnn.ckpt")


def test_weights_are_loaded_as_far_as_they_are_there_without_strict(trainer, tmp_path, tiny_data):
    run = trainer()
    run.fit(MLPClassifier(), datamodule=MNISTDataModule(val_size=50))
    run.save_checkpoint(tmp_path / "mlp.ckpt")
    content = torch.load(tmp_path / "mlp.ckpt", weights_only=True)
    (missing, *others) = [name for name in content["state_dict"] if name.startswith("network.")]
    content["state_dict"]["other"] = content["state_dict"].pop(missing)
    torch.save(content, tmp_path / "changed.ckpt")

    with pytest.raises(UserError, match=f"another architecture: the model has .* for {missing}, the checkpoint none"):
        MLPClassifier.load_from_checkpoint(tmp_path / "changed.ckpt")
    with pytest.warns(UserWarning, match="Found keys that are"):
        loaded = MLPClassifier.load_from_checkpoint(tmp_path / "changed.ckpt", strict=False)
    assert all(torch.equal(loaded.state_dict()[name], content["state_dict"][name]) for name in others)

    content["state_dict"][others[0]] = torch.zeros(3)
    torch.save(content, tmp_path / "changed.ckpt")
    with pytest.raises(UserError, match=rf"another architecture: .* for {others[0]}, the checkpoint \(3,\)"):
        MLPClassifier.load_from_checkpoint(tmp_path / "changed.ckpt", strict=False)


# Refused arguments and data


def test_equal_class_names_are_refused_before_training(trainer):
    labels = torch.tensor([0, 1, 2])
    data = ArrayDataModule(
        torch.zeros(3, 1, 28, 28, dtype=torch.uint8), labels, class_names=["a", "b", "b"], val_size=1
    )
    classifier = linear_classifier(num_classes=3)

    with pytest.raises(
        UserError, match=r"^classes must have different names of at most 200 printable .*, got \['b', 'b'\]"
    ):
        trainer().fit(classifier, datamodule=data)


def test_an_evaluation_without_a_loss_is_an_error(trainer):
    classifier = linear_classifier(num_classes=10)
    classifier.network[1].weight.data.fill_(math.inf)

    with pytest.raises(DivergenceError, match=r"^val/loss is NaN or infinite, so that val/acc says nothing; "):
        trainer().validate(classifier, known_images(4), verbose=False)


def test_a_batch_of_one_image_that_batch_normalisation_cannot_train_on_is_refused(trainer):
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.BatchNorm1d(10))

    with pytest.raises(UserError, match=r"^Sequential: batch normalisation cannot train on a batch of one image; give"):
        trainer().fit(ImageClassifier(network), known_images(3), known_images(10))


def test_one_image_is_enough_where_batch_normalisation_has_several_pixels():
    classifier = ImageClassifier(ThreeStageCNN, image_size=20)

    assert classifier.training_step((torch.zeros(1, 1, 20, 20, dtype=torch.uint8), torch.tensor([3])), 0).isfinite()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"std": 0.0}, "std must be greater than 0, got 0.0"),
        ({"std": -0.5}, "std must be greater than 0, got -0.5"),
        ({"num_classes": 1}, "num_classes must be at least 2, got 1"),
        ({"std": math.nan}, "std must be a number, or a list of 1, one for each channel, got nan"),
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"in_channels": 3, "mean": [0.1, 0.2]}, "mean must be a number, or a list of 3, one for each channel"),
        ({"in_channels": 3, "std": [0.1, 0.0, 0.2]}, "std must be greater than 0, got [0.1, 0.0, 0.2]"),
        ({"image_size": 0}, "image_size must be a side of at least 1 pixel, or height and width, got 0"),
        ({"image_size": (28, -1)}, "image_size must be a side of at least 1 pixel, or height and width, got (28, -1)"),
        ({"image_size": 10**9}, "image_size must be at most 4096 pixels, got 1000000000"),
        ({"mean": 1e30}, "mean and std must be those of pixels scaled to [0, 1], got 1e+30 and 0.5"),
        ({"std": 1e-30}, "mean and std must be those of pixels scaled to [0, 1], got 0.5 and 1e-30"),
        ({"image_size": (28,)}, "image_size must be a side of at least 1 pixel, or height and width, got (28,)"),
        ({"label_smoothing": 1.5}, "label_smoothing must be between 0 and 1, got 1.5"),
        ({"class_weights": "balancd"}, "class_weights must be `balanced` or a list of 10 numbers of at least 0"),
        ({"class_weights": [1.0]}, "class_weights must be `balanced` or a list of 10 numbers of at least 0"),
        ({"class_weights": [math.nan] * 10}, "class_weights must be `balanced` or a list of 10 numbers"),
        ({"class_weights": [0.0] * 10}, "class_weights must be `balanced` or a list of 10 numbers of at least 0"),
        ({"loss": nn.MultiMarginLoss(), "label_smoothing": 0.1}, "loss takes neither class_weights nor label_smooth"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        CNNClassifier(**options)


@pytest.mark.parametrize("num_classes", [3, 11])
def test_data_with_another_number_of_classes_is_refused(tiny_data, trainer, num_classes):
    with pytest.raises(UserError, match=f"num_classes {num_classes}, but the data has 10 classes"):
        trainer().fit(CNNClassifier(num_classes=num_classes), datamodule=MNISTDataModule(val_size=50))
