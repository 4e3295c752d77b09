import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LambdaCallback, LearningRateMonitor, TQDMProgressBar
from lightning.pytorch.profilers import SimpleProfiler
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.startup import filter_warnings
from lightning_cnn.training.trainer import Trainer

#: What Lightning calls at every step.
HOOKS = [
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
]


def make(tmp_path, **options) -> Trainer:
    filter_warnings()
    silence = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    bare = {"accelerator": "cpu", "default_root_dir": tmp_path, "enable_model_summary": False, "max_epochs": 1}
    return Trainer(**{**silence, **bare, **options})


def fit(trainer: Trainer, steps: int = 3) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    classifier = ImageClassifier(network, lambda parameters: SGD(parameters, lr=0.1))
    data = TensorDataset(torch.zeros(steps, 1, 28, 28, dtype=torch.uint8), torch.arange(steps))
    trainer.fit(classifier, DataLoader(data), DataLoader(data))


class Counting(Callback):
    """Counts the calls of two hooks."""

    def __init__(self) -> None:
        self.calls = []

    def on_train_batch_start(self, *_):
        self.calls.append("on_train_batch_start")

    def on_after_backward(self, *_):
        self.calls.append("on_after_backward")


class Inheriting(Counting):
    """Counts those of its parent and one more."""

    def on_train_batch_end(self, *_):
        self.calls.append("on_train_batch_end")


# Precision


@pytest.mark.parametrize("options", [{}, {"precision": "auto"}, {"precision": None}])
def test_by_itself_it_computes_in_float32(options, tmp_path):
    assert make(tmp_path, **options).precision == "32-true"


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
def test_a_precision_that_is_given_is_kept(precision, tmp_path):
    assert make(tmp_path, precision=precision).precision == precision


# Hooks of a step


def test_callbacks_of_the_user_are_not_changed(tmp_path):
    callback = Counting()

    make(tmp_path, callbacks=[callback])

    assert vars(callback) == {"calls": []}


def test_a_callbacks_own_hooks_run_and_those_it_inherits(tmp_path):
    counting, inheriting = Counting(), Inheriting()

    fit(make(tmp_path, callbacks=[counting, inheriting]), steps=3)

    assert counting.calls == ["on_train_batch_start", "on_after_backward"] * 3
    assert inheriting.calls == ["on_train_batch_start", "on_after_backward", "on_train_batch_end"] * 3


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_runs_in_a_callback_that_has_it(hook, tmp_path):
    calls = []
    callback = type("Own", (Callback,), {hook: lambda self, *_: calls.append(hook)})()

    fit(make(tmp_path, callbacks=[callback]), steps=3)

    assert calls == [hook] * 3


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_runs_in_a_callback_that_was_given_it(hook, tmp_path):
    calls = []
    callback = LambdaCallback(**{hook: lambda *_: calls.append(hook)})

    fit(make(tmp_path, callbacks=[callback]), steps=3)

    assert calls == [hook] * 3


def test_a_callback_that_hands_on_to_its_parent_can(tmp_path):
    class Polite(Counting):
        def on_train_batch_end(self, *arguments):
            super().on_train_batch_end(*arguments)  # Lightning's own, which does nothing
            self.calls.append("on_train_batch_end")

    callback = Polite()

    fit(make(tmp_path, callbacks=[callback]), steps=1)

    assert callback.calls == ["on_train_batch_start", "on_after_backward", "on_train_batch_end"]


# Profiler


def test_a_profiler_that_is_given_by_name_measures(tmp_path):
    trainer = make(tmp_path, profiler="simple")
    assert isinstance(trainer.profiler, SimpleProfiler)

    fit(trainer, steps=3)

    assert len(trainer.profiler.recorded_durations["run_training_batch"]) == 3


def test_a_profiler_that_is_given_is_kept(tmp_path):
    profiler = SimpleProfiler()

    assert make(tmp_path, profiler=profiler).profiler is profiler


# Everything else is Lightning's


def test_other_arguments_reach_lightning(tmp_path):
    progress, rates = TQDMProgressBar(refresh_rate=7), LearningRateMonitor()

    trainer = make(
        tmp_path, max_epochs=4, accumulate_grad_batches=2, enable_progress_bar=True, callbacks=[progress, rates]
    )

    assert (trainer.max_epochs, trainer.accumulate_grad_batches) == (4, 2)
    assert {progress, rates} <= set(trainer.callbacks)
