import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, OnExceptionCheckpoint, TQDMProgressBar
from lightning.pytorch.profilers import SimpleProfiler
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.startup import filter_warnings
from lightning_cnn.training.trainer import Trainer


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


# Precision


@pytest.mark.parametrize("options", [{}, {"precision": "auto"}, {"precision": None}])
def test_auto_is_float32_in_python(options, tmp_path):
    assert make(tmp_path, **options).precision == "32-true"


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
def test_a_given_precision_is_kept(precision, tmp_path):
    assert make(tmp_path, precision=precision).precision == precision


# Options of Lightning


@pytest.mark.parametrize(
    "option",
    ["limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches", "overfit_batches"],
)
def test_limits_of_batches_reach_lightning(tmp_path, option):
    assert getattr(make(tmp_path, **{option: 2}), option) == 2


# Callbacks


def test_callbacks_that_save_checkpoints_are_the_last(tmp_path):
    users = [ModelCheckpoint(tmp_path), OnExceptionCheckpoint(tmp_path), LearningRateMonitor()]

    trainer = make(tmp_path, callbacks=users, enable_checkpointing=True, logger=True)

    assert trainer.callbacks[0] is users[2]
    assert trainer.callbacks[-2:] == users[:2]
    assert len(trainer.callbacks) > 3
    assert len(users) == 3


def test_callbacks_of_the_user_are_not_changed(tmp_path):
    callback = Callback()

    make(tmp_path, callbacks=[callback])

    assert vars(callback) == {}
    fit(make(tmp_path, callbacks=[callback]))
    assert set(vars(callback)) == {"log", "log_dict"}  # which Lightning adds


# Profiler


def test_a_profiler_given_by_name_measures(tmp_path):
    trainer = make(tmp_path, profiler="simple")
    assert isinstance(trainer.profiler, SimpleProfiler)

    fit(trainer, steps=3)

    assert len(trainer.profiler.recorded_durations["run_training_batch"]) == 3


def test_a_given_profiler_is_kept(tmp_path):
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


def test_barebones_has_no_callbacks_and_trains(tmp_path):
    filter_warnings()
    trainer = Trainer(barebones=True, accelerator="cpu", default_root_dir=tmp_path, max_epochs=1)

    assert trainer.callbacks == []
    fit(trainer)
    assert trainer.global_step == 3
    assert not list(tmp_path.iterdir())


def test_variables_of_lightning_are_defaults(tmp_path, monkeypatch):
    variables = {"max_steps": 2, "limit_train_batches": 3, "limit_val_batches": 4, "precision": "64-true"}
    for name, value in variables.items():
        monkeypatch.setenv(f"PL_TRAINER_{name.upper()}", str(value))

    trainer = make(tmp_path, limit_val_batches=5)

    assert (trainer.max_steps, trainer.limit_train_batches, trainer.limit_val_batches) == (2, 3, 5)
    assert trainer.precision == "64-true"
