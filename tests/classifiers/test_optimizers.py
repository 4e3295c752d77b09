"""The optimizers and the learning-rate schedules that `ImageClassifier` builds."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.cli import ReduceLROnPlateau
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, Optimizer, RMSprop
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR, StepLR
from torch.utils.data import DataLoader, TensorDataset

from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.errors import UserError


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


def learning_rates(trainer, optimizer: Callable, scheduler: Callable | None, epochs: int) -> list[float]:
    """Train with three batches an epoch and return the learning rate of each."""
    rates = LearningRates()
    trainer(max_epochs=epochs, callbacks=[rates]).fit(linear_classifier(optimizer, scheduler), *loaders(batches=3))
    return rates.seen


def test_the_learning_rate_is_constant_without_a_schedule(trainer):
    assert learning_rates(trainer, partial(Adam, lr=0.01), None, epochs=2) == [0.01] * 6


def test_the_schedule_steps_once_an_epoch(trainer):
    rates = learning_rates(trainer, partial(SGD, lr=1e-3), partial(StepLR, step_size=1, gamma=0.1), epochs=3)

    assert rates == pytest.approx([1e-3] * 3 + [1e-4] * 3 + [1e-5] * 3)


def test_cyclic_schedules_are_stepped_every_batch(trainer):
    schedule = partial(CyclicLR, base_lr=0.1, max_lr=0.3, step_size_up=2)

    rates = learning_rates(trainer, partial(SGD, lr=0.1, momentum=0.9), schedule, epochs=2)

    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.2, 0.1, 0.2])


def test_a_schedule_can_monitor_a_metric(trainer):
    # No epoch halves the loss, so the rate drops after every epoch but the first.
    schedule = partial(ReduceLROnPlateau, monitor="val/loss", patience=0, factor=0.1, threshold=0.5)

    rates = learning_rates(trainer, partial(SGD, lr=1e-6), schedule, epochs=4)

    assert rates[::3] == pytest.approx([1e-6, 1e-6, 1e-7, 1e-8])


def test_invalid_arguments_of_the_optimizer_are_user_errors(trainer):
    with pytest.raises(UserError, match=r"^invalid arguments of the optimizer or its schedule: .*rate: -1"):
        trainer().fit(linear_classifier(partial(SGD, lr=-1)), *loaders())


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
