import inspect

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from lightning_cnn.classifiers import MLPClassifier
from lightning_cnn.data import FashionMNISTDataModule
from lightning_cnn.training.hooks import _STEP_HOOKS, without_empty_hooks
from lightning_cnn.training.loops import EpochLoop


class Counting(Callback):
    """Counts the ends of batches, and sees what it has of the other hooks."""

    def __init__(self) -> None:
        self.batches = 0
        self.others: set[object] = set()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.batches += 1
        self.others |= {getattr(self, name) for name in _STEP_HOOKS if name != "on_train_batch_end"}


class Inheriting(Counting):
    """Has the hook of its base class."""


@pytest.fixture
def _ours(monkeypatch):
    """Let the callbacks of this file be callbacks of the package."""
    for cls in (Counting, Inheriting):
        monkeypatch.setattr(cls, "__module__", "lightning_cnn.callbacks")


@pytest.mark.usefixtures("_ours")
@pytest.mark.parametrize("cls", [Counting, Inheriting])
def test_only_hooks_that_do_something_are_called(cls, tiny_data, trainer):
    callback = cls()

    trainer(ours=True, callbacks=[callback], max_steps=3).fit(
        MLPClassifier(), datamodule=FashionMNISTDataModule(val_size=50)
    )

    assert (callback.batches, callback.others) == (3, {None})
    assert not vars(callback).keys() & {*_STEP_HOOKS}


def test_callbacks_of_the_user_keep_all_their_hooks(tiny_data, trainer):
    callback = Counting()

    trainer(ours=True, callbacks=[callback], max_steps=1).fit(
        MLPClassifier(), datamodule=FashionMNISTDataModule(val_size=50)
    )

    assert {hook.__name__ for hook in callback.others} == {*_STEP_HOOKS} - {"on_train_batch_end"}


def test_hooks_of_the_instance_are_called(tiny_data, trainer, monkeypatch):
    monkeypatch.setattr(LambdaCallback, "__module__", "lightning_cnn.callbacks")
    seen = []
    callback = LambdaCallback(on_before_zero_grad=lambda *_: seen.append("zero_grad"))

    trainer(ours=True, callbacks=[callback], max_steps=2).fit(
        MLPClassifier(), datamodule=FashionMNISTDataModule(val_size=50)
    )

    assert seen == ["zero_grad"] * 2


@pytest.mark.usefixtures("_ours")
def test_after_an_error_all_hooks_are_there():
    callback = Counting()

    with pytest.raises(KeyError), without_empty_hooks([callback]):
        raise KeyError

    assert not vars(callback).keys() & {*_STEP_HOOKS}
    assert callback.on_train_batch_start.__func__ is Callback.on_train_batch_start


@pytest.mark.usefixtures("_ours")
def test_blocks_can_be_nested():
    """`LearningRateFinder` trains within a training."""
    callback = Counting()

    with without_empty_hooks([callback]):
        with without_empty_hooks([callback]):
            pass
        assert callback.on_before_backward is None

    assert callback.on_before_backward is not None


@pytest.mark.usefixtures("_ours")
def test_a_hook_that_is_set_within_the_block_is_kept():
    callback = Counting()

    with without_empty_hooks([callback]):
        callback.on_before_backward = print

    assert callback.on_before_backward is print


def test_all_hooks_of_lightnings_step_are_known():
    """In these files Lightning calls the hooks of a step by their names."""
    from lightning.pytorch.loops.optimization import automatic
    from lightning.pytorch.plugins.precision import precision

    source = "".join(inspect.getsource(part) for part in (_TrainingEpochLoop.advance, automatic, precision))
    named = {name for name in vars(Callback) if f'"{name}"' in source}

    assert named == set(_STEP_HOOKS)


@pytest.mark.parametrize("takes_index", [True, False])
def test_a_training_step_may_leave_out_the_index_of_the_batch(takes_index, tiny_data, trainer):
    class WithoutIndex(MLPClassifier):
        def training_step(self, batch):
            return super().training_step(batch, 7)

    model = (MLPClassifier if takes_index else WithoutIndex)()
    made = trainer(ours=True, max_steps=1)
    made.fit(model, datamodule=FashionMNISTDataModule(val_size=50))
    loop = made.fit_loop.epoch_loop

    ours, lightnings = ({}, {})
    EpochLoop._build_kwargs(loop, ours, "batch", 3)
    _TrainingEpochLoop._build_kwargs(loop, lightnings, "batch", 3)

    assert ours == lightnings == {"batch": "batch"} | ({"batch_idx": 3} if takes_index else {})
