"""The optimizers and the learning-rate schedules that `ImageClassifier` builds."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import GradientAccumulationScheduler, LearningRateFinder, ModelCheckpoint
from lightning.pytorch.cli import ReduceLROnPlateau
from lightning.pytorch.tuner import Tuner
from torch import nn
from torch.optim import LBFGS, SGD, Adagrad, Adam, AdamW, NAdam, Optimizer, RMSprop
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    SequentialLR,
    StepLR,
)
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassF1Score

from lightning_cnn.classifiers import ImageClassifier, SimpleCNNClassifier
from lightning_cnn.errors import UserError


def loaders(batches: int = 3) -> tuple[DataLoader, DataLoader]:
    """Training batches of four images, and the same images for validation."""
    images = torch.randint(256, (4 * batches, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    data = TensorDataset(images, torch.arange(4 * batches) % 10)
    return DataLoader(data, batch_size=4), DataLoader(data, batch_size=5)


def linear_classifier(optimizer: Callable, scheduler: Callable | None = None, **options: object) -> ImageClassifier:
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
    with pytest.raises(UserError, match=r"^invalid arguments of the optimizer or its schedule: .*capturable"):
        trainer().fit(linear_classifier(partial(Adam, capturable=True)), *loaders())


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


def test_one_cycle_that_is_shorter_than_the_run_ends_it(trainer):
    schedule = partial(OneCycleLR, max_lr=0.1, total_steps=4)

    with pytest.raises(
        UserError, match=r"^the schedule is shorter than the run \(Tried to step 5 times.*\); give it more"
    ):
        trainer(max_epochs=2).fit(linear_classifier(partial(SGD, lr=0.1, momentum=0.9), schedule), *loaders())


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


@pytest.mark.parametrize(
    ("scheduling", "options", "steps"),
    [({0: 1, 2: 4}, {"max_epochs": 5}, 2 * 8 + 3 * 2), ({1: 3}, {"max_epochs": 3, "max_steps": 12}, 12)],
)
def test_one_cycle_counts_steps_with_scheduled_accumulation(trainer, scheduling, options, steps):
    schedule = partial(OneCycleLR, max_lr=0.1, total_steps=None)
    run = trainer(callbacks=[GradientAccumulationScheduler(scheduling)], **options)

    run.fit(linear_classifier(lambda parameters: SGD(parameters, lr=0.1), schedule), *loaders(batches=8))

    assert run.lr_scheduler_configs[0].scheduler.total_steps == run.global_step == steps


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


# Every schedule of torch: where it is stepped, and that it is resumed from a checkpoint

SCHEDULES: dict[type, Callable] = {
    LambdaLR: partial(LambdaLR, lr_lambda=lambda epoch: 0.5**epoch),
    MultiplicativeLR: partial(MultiplicativeLR, lr_lambda=lambda epoch: 0.9),
    StepLR: partial(StepLR, step_size=2),
    MultiStepLR: partial(MultiStepLR, milestones=[1, 3]),
    ConstantLR: partial(ConstantLR, total_iters=3),
    LinearLR: LinearLR,
    ExponentialLR: partial(ExponentialLR, gamma=0.5),
    PolynomialLR: PolynomialLR,
    CosineAnnealingLR: partial(CosineAnnealingLR, T_max=3),
    CosineAnnealingWarmRestarts: partial(CosineAnnealingWarmRestarts, T_0=3),
    CyclicLR: partial(CyclicLR, base_lr=0.1, max_lr=0.3, step_size_up=2),
    OneCycleLR: partial(OneCycleLR, max_lr=0.1, total_steps=12),
    torch.optim.lr_scheduler.ReduceLROnPlateau: partial(
        torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0, threshold=0.9
    ),
    SequentialLR: lambda optimizer: SequentialLR(optimizer, [LinearLR(optimizer), StepLR(optimizer, 1)], [2]),
    ChainedScheduler: lambda optimizer: ChainedScheduler([LinearLR(optimizer), StepLR(optimizer, 1)]),
    torch.optim.swa_utils.SWALR: partial(torch.optim.swa_utils.SWALR, swa_lr=0.05),
}
PER_STEP = (CyclicLR, OneCycleLR)


def test_all_schedules_of_torch_are_tried():
    found = {
        cls
        for cls in vars(torch.optim.lr_scheduler).values()
        if isinstance(cls, type) and issubclass(cls, (LRScheduler, torch.optim.lr_scheduler.ReduceLROnPlateau))
    }

    assert {cls for cls in found if cls.__name__.strip("_") != "LRScheduler"} == SCHEDULES.keys() - {
        torch.optim.swa_utils.SWALR
    }


@pytest.mark.parametrize("kind", SCHEDULES, ids=lambda kind: kind.__name__)
def test_a_schedule_of_torch_is_stepped_and_resumed(kind, trainer, tmp_path):
    def fit(epochs: int, **options) -> list[float]:
        rates = LearningRates()
        run = trainer(max_epochs=epochs, callbacks=[rates])
        classifier = linear_classifier(partial(SGD, lr=0.1, momentum=0.9), SCHEDULES[kind])
        run.fit(classifier, *loaders(batches=3), **options)
        run.save_checkpoint(tmp_path / "some.ckpt")
        return rates.seen

    whole = fit(4)
    assert len({*whole}) > 1
    by_epoch = [whole[i : i + 3] for i in range(0, 12, 3)]
    assert (max(len({*rates}) for rates in by_epoch) > 1) == (kind in PER_STEP)
    resumed = fit(2) + fit(4, ckpt_path=tmp_path / "some.ckpt", weights_only=True)
    assert resumed == pytest.approx(whole)


@pytest.mark.parametrize(
    "schedule",
    [
        partial(StepLR, step_size=0),
        partial(CosineAnnealingLR, T_max=0),
        partial(CyclicLR, base_lr=0.1, max_lr=0.3, step_size_up=0),
        partial(LambdaLR, lr_lambda=math.sqrt),  # fails in the first checkpoint
        ChainedScheduler,
    ],
)
def test_schedules_that_would_fail_later_are_refused(trainer, schedule):
    with pytest.raises(UserError, match=r"^invalid arguments of the .*schedule"):
        trainer().fit(linear_classifier(partial(SGD, lr=0.1, momentum=0.9), schedule), *loaders())


def test_schedules_within_others_are_stepped_every_batch(trainer):
    def chained(optimizer: Optimizer) -> ChainedScheduler:
        return ChainedScheduler([CyclicLR(optimizer, base_lr=0.1, max_lr=0.3, step_size_up=2)])

    assert learning_rates(trainer, partial(SGD, lr=0.1, momentum=0.9), chained, epochs=1) == pytest.approx(
        [0.1, 0.2, 0.3]
    )


@pytest.mark.parametrize(("mode", "monitor"), [("min", "val/loss"), ("max", "val/acc")])
def test_a_plateau_without_a_monitor_is_that_of_its_mode(trainer, mode, monitor):
    run = trainer()
    schedule = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, mode=mode)

    run.fit(linear_classifier(partial(SGD, lr=0.1), schedule), *loaders())

    assert run.lr_scheduler_configs[0].monitor == monitor


@pytest.mark.parametrize(("mode", "monitor"), [("min", "val/loss"), ("max", "val/f1")])
def test_a_plateau_without_a_monitor_is_that_of_the_checkpoints_if_their_mode_is_its_own(trainer, mode, monitor):
    run = trainer(callbacks=[ModelCheckpoint(monitor="val/f1", mode="max")])
    schedule = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, mode=mode)

    run.fit(linear_classifier(partial(SGD, lr=0.1), schedule, metrics={"f1": MulticlassF1Score}), *loaders())

    assert run.lr_scheduler_configs[0].monitor == monitor


@pytest.mark.filterwarnings("ignore:ReduceLROnPlateau conditioned on metric val/loss which is not available")
def test_a_plateau_is_looked_for_after_each_validation(trainer):
    def rates(**options) -> list[float]:
        seen = LearningRates()
        schedule = partial(ReduceLROnPlateau, monitor="val/loss", patience=0, factor=0.1, threshold=0.5)
        trainer(callbacks=[seen], num_sanity_val_steps=0, **options).fit(
            linear_classifier(partial(SGD, lr=1e-6), schedule), *loaders(batches=3)
        )
        return seen.seen[::3]

    # The first validation is the best, and each later one divides the rate by ten.
    assert rates(max_epochs=6, check_val_every_n_epoch=2) == pytest.approx([1e-6] * 4 + [1e-7] * 2)
    counted = rates(max_epochs=3, check_val_every_n_epoch=None, val_check_interval=4)  # none in the first epoch
    assert counted == pytest.approx([1e-6, 1e-6, 1e-6])


# Every optimizer of torch

REFUSED = {
    "SparseAdam": "SparseAdam does not support dense gradients, please consider Adam instead",
    "Muon": "Muon only supports 2D parameters whereas we found a parameter with size: .*",
}
OPTIMIZERS = [cls for cls in vars(torch.optim).values() if isinstance(cls, type) and cls is not Optimizer]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda cls: cls.__name__)
def test_an_optimizer_of_torch_trains_or_is_refused(trainer, optimizer):
    classifier = linear_classifier(partial(optimizer, lr=0.01))
    before = classifier.network[1].weight.clone()
    run = trainer(max_epochs=2)

    if optimizer.__name__ in REFUSED:
        with pytest.raises(UserError, match=f"^invalid arguments of the optimizer .*: {REFUSED[optimizer.__name__]}$"):
            run.fit(classifier, *loaders())
        assert torch.equal(classifier.network[1].weight, before)
    else:
        run.fit(classifier, *loaders())
        assert not torch.equal(classifier.network[1].weight, before)
        assert run.callback_metrics["train/loss"].isfinite()


def test_lbfgs_trains_convolutions(trainer):
    classifier = SimpleCNNClassifier(optimizer=partial(LBFGS, lr=0.01, max_iter=2))
    before = next(classifier.network.parameters()).clone()
    run = trainer(max_epochs=1)

    run.fit(classifier, *loaders())

    assert not torch.equal(next(classifier.network.parameters()), before)
    assert run.callback_metrics["train/loss"].isfinite()


def test_building_an_optimizer_changes_nothing():
    classifier = linear_classifier(partial(SGD, lr=0.1, weight_decay=0.5), partial(StepLR, step_size=1))
    weight = classifier.network[1].weight
    weight.grad, before = torch.ones_like(weight), weight.clone()

    built = classifier.configure_optimizers()

    assert torch.equal(weight, before) and not built["optimizer"].state
    assert built["optimizer"].param_groups[0]["lr"] == 0.1
    assert built["lr_scheduler"]["scheduler"].last_epoch == 0


def test_an_optimizer_of_other_parameters_is_not_tried():
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.ones(2)

    linear_classifier(lambda _: SGD([weight], lr=1.0)).configure_optimizers()

    assert weight.tolist() == [0, 0]


# The learning rate as an attribute


@pytest.mark.parametrize(
    ("optimizer", "lr"), [(Adam, 1e-3), (partial(SGD, lr=0.25), 0.25), (lambda p: SGD(p, lr=0.125), 0.125)]
)
def test_the_learning_rate_can_be_read_and_set(optimizer, lr):
    classifier = linear_classifier(optimizer)
    assert classifier.lr == lr

    classifier.lr = 0.5

    assert classifier.lr == 0.5
    assert classifier.configure_optimizers().param_groups[0]["lr"] == 0.5
    assert "lr" not in classifier.hparams


FINDER = {"min_lr": 1e-4, "max_lr": 1.0, "early_stop_threshold": None}


def test_the_tuner_finds_a_learning_rate(trainer):
    classifier = linear_classifier(partial(SGD, lr=1e-9))
    run, seen = trainer(max_epochs=1), LearningRates()

    found = Tuner(run).lr_find(classifier, *loaders(batches=30), num_training=30, **FINDER)
    again = trainer(max_epochs=1, callbacks=[seen])
    again.fit(classifier, *loaders(batches=30))

    assert 1e-4 < found.suggestion() == classifier.lr == seen.seen[0] < 1


@pytest.mark.parametrize("ours", [False, True])
def test_the_callback_finds_the_learning_rate_of_the_run_and_its_schedule(trainer, ours):
    seen = LearningRates()
    finder = LearningRateFinder(num_training_steps=30, **FINDER)
    classifier = linear_classifier(partial(SGD, lr=1e-9), partial(CosineAnnealingWarmRestarts, T_0=1))

    run = trainer(ours, max_epochs=2, callbacks=[finder, seen], num_sanity_val_steps=0)
    run.fit(classifier, *loaders(batches=30))

    lr = finder.optimal_lr.suggestion()
    assert classifier.lr == lr > 1e-4
    assert seen.seen == pytest.approx([lr] * 60)
    assert run.global_step == 60


def test_a_search_does_not_change_the_metrics_of_the_run(trainer):
    def fit(*callbacks: Callback) -> dict[str, float]:
        run = trainer(max_epochs=1, callbacks=[*callbacks], num_sanity_val_steps=0)
        run.fit(linear_classifier(partial(SGD, lr=0.1)), *loaders(batches=15))
        return {name: value.item() for name, value in run.callback_metrics.items()}

    finder = LearningRateFinder(num_training_steps=20, update_attr=False, **FINDER)

    assert fit(finder) == pytest.approx(fit())


def test_a_learning_rate_that_the_schedule_replaces_is_refused(trainer):
    schedule = partial(OneCycleLR, max_lr=0.1, total_steps=None)
    finder = LearningRateFinder(num_training_steps=30, **FINDER)

    message = (
        r"^a learning rate of .* would not be used, because OneCycleLR has its own; set its max_lr, or leave it out"
    )
    with pytest.raises(UserError, match=message):
        trainer(callbacks=[finder]).fit(linear_classifier(partial(SGD, lr=0.1, momentum=0.9), schedule), *loaders(30))


# Implementations of optimizers


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
