import inspect
from collections.abc import Callable
from functools import partial

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, seed_everything
from torch import nn
from torch.nn import functional
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, Optimizer, RMSprop
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR, StepLR
from torch.utils.data import DataLoader, TensorDataset

from lightning_cnn import classifiers, networks
from lightning_cnn.classifiers import (
    CNNClassifier,
    DeepCNNClassifier,
    FastCNNClassifier,
    ImageClassifier,
    MLPClassifier,
    ShallowCNNClassifier,
    SimpleCNNClassifier,
)
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.data.augment import CropAndRotate
from lightning_cnn.errors import UserError

#: The input of the network for a black pixel, one at a fifth of the range, and a white one.
PIXELS = {
    ShallowCNNClassifier: (-1, -0.6, 1),
    DeepCNNClassifier: (-0.424213, 0.224927, 2.821487),  # (x − 0.1307) / 0.3081
    SimpleCNNClassifier: (0, 0.2, 1),
    MLPClassifier: (0, 0.2, 1),
    CNNClassifier: (-1, -0.6, 1),
    FastCNNClassifier: (0, 0.2, 1),
}

every_classifier = pytest.mark.parametrize("classifier_class", PIXELS)


def test_every_network_has_a_classifier():
    public = {getattr(classifiers, name) for name in classifiers.__all__}

    assert public == {*PIXELS, ImageClassifier}
    assert {f"{name}Classifier" for name in networks.__all__} == {cls.__name__ for cls in PIXELS}


@every_classifier
def test_it_has_its_own_network(classifier_class):
    assert type(classifier_class().network).__name__ == classifier_class.__name__.removesuffix("Classifier")


@every_classifier
def test_the_input_has_the_published_range(classifier_class):
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1)

    assert classifier_class().preprocess(pixels).flatten().tolist() == pytest.approx(PIXELS[classifier_class], abs=1e-6)


@every_classifier
def test_arguments_are_forwarded(classifier_class):
    def optimizer(parameters):
        return Adam(parameters)

    def scheduler(optimizer):
        return None

    classifier = classifier_class(
        optimizer=optimizer, scheduler=scheduler, mean=0.1, std=0.2, num_classes=4, label_smoothing=0.3
    )

    assert (classifier.optimizer, classifier.scheduler, classifier.label_smoothing) == (optimizer, scheduler, 0.3)
    assert (classifier.mean.item(), classifier.std.item()) == pytest.approx((0.1, 0.2))
    assert classifier(torch.zeros(2, 1, 28, 28, dtype=torch.uint8)).shape == (2, 4)


@every_classifier
def test_the_command_line_has_the_arguments_of_the_base_without_the_network(classifier_class):
    expected = dict(inspect.signature(ImageClassifier).parameters)
    del expected["network"]
    parser = ArgumentParser()
    parser.add_class_arguments(classifier_class, "model")
    own = {"channels", "hidden"} if classifier_class is FastCNNClassifier else set()

    assert set(parser.get_defaults().model.as_dict()) == {*expected, *own}


@every_classifier
def test_a_misspelt_argument_is_refused(classifier_class):
    with pytest.raises(TypeError, match="label_smooting"):
        classifier_class(label_smooting=0.1)


@every_classifier
def test_all_scalars_are_hyperparameters(classifier_class):
    own = {"channels", "hidden"} if classifier_class is FastCNNClassifier else set()

    assert set(classifier_class(optimizer=SGD).hparams) == {"mean", "std", "num_classes", "label_smoothing", *own}


@every_classifier
def test_one_batch_can_be_overfitted(classifier_class, trainer):
    seed_everything(0, verbose=False)
    batch = TensorDataset(torch.randint(256, (8, 1, 28, 28), dtype=torch.uint8), torch.arange(8))
    rate = 0.01 if classifier_class is FastCNNClassifier else 1e-3  # which needs a high learning rate
    classifier = classifier_class(optimizer=lambda parameters: Adam(parameters, lr=rate))
    loader = DataLoader(batch, batch_size=8)

    trainer(max_epochs=35, check_val_every_n_epoch=35).fit(classifier, loader, loader)
    (measured,) = trainer().validate(classifier, loader, verbose=False)

    assert measured["val/acc"] == 1
    assert measured["val/loss"] < 0.5  # guessing costs log 10 = 2.3


def trained_weights(trainer, seed: int) -> dict[str, torch.Tensor]:
    seed_everything(seed, verbose=False)
    classifier = CNNClassifier(optimizer=lambda parameters: SGD(parameters, lr=0.01))
    trainer(max_epochs=2).fit(classifier, datamodule=MNISTDataModule(val_size=50, augment=CropAndRotate()))
    return classifier.state_dict()


def test_a_seed_repeats_training_to_the_bit(tiny_data, trainer):
    first, second = trained_weights(trainer, 1), trained_weights(trainer, 1)

    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_gives_other_weights(tiny_data, trainer):
    first, second = trained_weights(trainer, 1), trained_weights(trainer, 2)

    assert not torch.equal(first["network.layers.0.weight"], second["network.layers.0.weight"])


# FastCNN


def test_fast_cnn_has_the_given_size():
    def parameters(classifier):
        return sum(p.numel() for p in classifier.network.parameters())

    assert parameters(FastCNNClassifier()) == 76_154
    assert parameters(FastCNNClassifier(channels=96, hidden=128)) == 212_730


def test_a_checkpoint_restores_the_size(trainer, tmp_path):
    images = torch.randint(256, (4, 1, 28, 28), dtype=torch.uint8)
    classifier = FastCNNClassifier(channels=3, hidden=5, label_smoothing=0.1)
    run = trainer()
    run.fit(classifier, *loaders())
    run.save_checkpoint(tmp_path / "fast.ckpt")

    restored = FastCNNClassifier.load_from_checkpoint(tmp_path / "fast.ckpt")

    assert (restored.hparams["channels"], restored.hparams["hidden"], restored.label_smoothing) == (3, 5, 0.1)
    with torch.no_grad():
        assert torch.equal(restored.eval()(images), classifier.eval()(images))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels and hidden must be at least 1, got 0 and 64"),
        ({"hidden": -1}, "channels and hidden must be at least 1, got 64 and -1"),
        ({"label_smoothing": -0.1}, "label_smoothing must be between 0 and 1, got -0.1"),
        ({"label_smoothing": 1.5}, "label_smoothing must be between 0 and 1, got 1.5"),
        ({"label_smoothing": float("nan")}, "label_smoothing must be between 0 and 1, got nan"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match="^" + message.replace(".", r"\.") + "$"):
        FastCNNClassifier(**options)


# Label smoothing, schedules and fused optimizers


def loaders(batches: int = 3) -> tuple[DataLoader, DataLoader]:
    """Training batches of four images, and the same images for validation."""
    images = torch.randint(256, (4 * batches, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    data = TensorDataset(images, torch.arange(4 * batches) % 10)
    return DataLoader(data, batch_size=4), DataLoader(data, batch_size=5)


def linear_classifier(optimizer: Callable, scheduler: Callable | None = None, **options: float) -> ImageClassifier:
    torch.manual_seed(0)
    return ImageClassifier(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), optimizer, scheduler, **options)


class LearningRates(Callback):
    """Records the learning rate of every batch."""

    def __init__(self) -> None:
        self.seen = []

    def on_train_batch_start(self, trainer, *_):
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_targets_are_smoothed_in_training_only(smoothing, trainer):
    classifier = linear_classifier(lambda parameters: SGD(parameters, lr=0), label_smoothing=smoothing)
    train, val = loaders()
    images, targets = train.dataset.tensors
    logits = classifier(images)
    run = trainer()

    run.fit(classifier, train, val)

    smoothed = functional.cross_entropy(logits, targets, label_smoothing=smoothing).item()
    assert run.callback_metrics["train/loss"].item() == pytest.approx(smoothed, rel=1e-5)
    plain = functional.cross_entropy(logits, targets).item()
    assert run.callback_metrics["val/loss"].item() == pytest.approx(plain, rel=1e-5)


def test_one_cycle_has_the_steps_of_the_run(trainer):
    schedule = partial(OneCycleLR, max_lr=0.1, total_steps=None)
    rates = LearningRates()

    trainer(max_epochs=2, callbacks=[rates]).fit(
        linear_classifier(lambda parameters: SGD(parameters, lr=0.1), schedule), *loaders(batches=5)
    )

    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    expected = OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
    assert rates.seen[0] == pytest.approx(0.1 / 25)
    assert max(rates.seen) == pytest.approx(0.1)
    for rate in rates.seen:
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        expected.step()
    assert len(rates.seen) == 10


def test_one_cycle_counts_steps_not_accumulated_batches(trainer):
    schedule = partial(OneCycleLR, max_lr=0.1, total_steps=None)
    run = trainer(max_epochs=2, accumulate_grad_batches=2)

    run.fit(linear_classifier(lambda parameters: SGD(parameters, lr=0.1), schedule), *loaders(batches=5))

    assert run.lr_scheduler_configs[0].scheduler.total_steps == run.global_step == 6


def test_a_given_number_of_steps_is_kept(trainer):
    for settings in ({"total_steps": 77}, {"total_steps": None, "epochs": 7, "steps_per_epoch": 11}):
        run = trainer()
        classifier = linear_classifier(
            lambda parameters: SGD(parameters, lr=0.1), partial(OneCycleLR, max_lr=0.1, **settings)
        )
        run.fit(classifier, *loaders())
        assert run.lr_scheduler_configs[0].scheduler.total_steps == 77


def test_cyclic_schedules_are_stepped_every_batch_and_others_every_epoch(trainer):
    seen = {}
    for schedule in (
        partial(CyclicLR, base_lr=0.1, max_lr=0.3, step_size_up=2),
        partial(StepLR, step_size=1, gamma=0.5),
    ):
        rates = LearningRates()
        classifier = linear_classifier(lambda parameters: SGD(parameters, lr=0.1, momentum=0.9), schedule)
        trainer(max_epochs=2, callbacks=[rates]).fit(classifier, *loaders(batches=3))
        seen[schedule.func] = rates.seen

    assert seen[CyclicLR] == pytest.approx([0.1, 0.2, 0.3, 0.2, 0.1, 0.2])
    assert seen[StepLR] == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05, 0.05])


@pytest.mark.parametrize("epochs", [1, 3, 4])
def test_one_cycle_is_not_resumed_with_another_number_of_epochs(epochs, trainer, tmp_path):
    def classifier():
        return linear_classifier(
            lambda parameters: SGD(parameters, lr=0.1), partial(OneCycleLR, max_lr=0.1, total_steps=None)
        )

    run = trainer(max_epochs=2)
    run.fit(classifier(), *loaders(batches=3))
    run.save_checkpoint(tmp_path / "some.ckpt")

    message = f"has 6 steps, but this run has {3 * epochs}; resume with the same number of epochs"
    with pytest.raises(UserError, match=message):
        trainer(max_epochs=epochs).fit(
            classifier(), *loaders(batches=3), ckpt_path=tmp_path / "some.ckpt", weights_only=True
        )


class StopAfterEpoch(Callback):
    """Ends training after its first epoch."""

    def on_train_epoch_end(self, trainer, *_):
        trainer.should_stop = True


@pytest.mark.parametrize("total_steps", [None, 50])
def test_one_cycle_is_resumed_exactly(total_steps, trainer, tmp_path):
    def fit(**options):
        rates = LearningRates()
        run = trainer(max_epochs=2, callbacks=[rates, *options.pop("callbacks", [])])
        schedule = partial(OneCycleLR, max_lr=0.1, total_steps=total_steps)
        classifier = linear_classifier(lambda parameters: SGD(parameters, lr=0.1), schedule)
        run.fit(classifier, *loaders(batches=3), **options)
        run.save_checkpoint(tmp_path / "some.ckpt")
        return rates.seen

    whole = fit()
    first = fit(callbacks=[StopAfterEpoch()])
    rest = fit(ckpt_path=tmp_path / "some.ckpt", weights_only=True)

    assert len(first) == 3
    assert first + rest == pytest.approx(whole)


def groups(optimizer: Callable[..., Optimizer], trainer) -> list[dict]:
    """Train for one epoch and return the parameter groups of the optimizer."""
    run = trainer()
    classifier = linear_classifier(optimizer)
    before = classifier.network[1].weight.clone()
    run.fit(classifier, *loaders())
    assert not torch.equal(classifier.network[1].weight, before)
    return run.optimizers[0].param_groups


@pytest.mark.parametrize("optimizer", [Adam, AdamW, SGD, Adagrad])
def test_optimizers_are_fused_where_possible(optimizer, trainer):
    assert [group["fused"] for group in groups(lambda p: optimizer(p, lr=0.01), trainer)] == [True]


@pytest.mark.parametrize("optimizer", [Adam, SGD])
@pytest.mark.parametrize(
    ("chosen", "fused"), [({"foreach": True}, None), ({"fused": False}, False), ({"fused": True}, True)], ids=str
)
def test_the_implementation_of_the_optimizer_can_be_chosen(optimizer, chosen, fused, trainer):
    for group in groups(lambda p: optimizer(p, lr=0.01, **chosen), trainer):
        assert group["fused"] is fused
        assert group["foreach"] is chosen.get("foreach", group["foreach"])


def test_a_for_loop_implementation_can_be_chosen(trainer):
    for group in groups(lambda p: SGD(p, lr=0.01, foreach=False), trainer):
        assert not group["fused"]


@pytest.mark.parametrize("optimizer", [NAdam, RMSprop])
def test_optimizers_without_a_fused_implementation_work(optimizer, trainer):
    assert all("fused" not in group for group in groups(lambda p: optimizer(p, lr=0.01), trainer))


@pytest.mark.parametrize(
    "optimizer", [partial(SGD, lr=0.01, momentum=0.9), partial(Adam, lr=0.001)], ids=["SGD", "Adam"]
)
def test_a_fused_optimizer_gives_the_same_weights(optimizer, trainer):
    weights = []
    for options in ({}, {"fused": False}):
        classifier = linear_classifier(partial(optimizer, **options))
        trainer(max_epochs=3).fit(classifier, *loaders())
        weights.append(classifier.network[1].weight.detach())

    torch.testing.assert_close(*weights)
