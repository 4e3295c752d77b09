"""The classifiers and data modules with Lightning's own Trainer, its checkpoints, its loggers and its tuner."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.tuner import Tuner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.optim import SGD

import lightning_cnn as lc
from lightning_cnn import classifiers, data

#: The five systems.
SYSTEMS = {
    "ShallowCNN": "FashionMNIST",
    "DeepCNN": "MNIST",
    "SimpleCNN": "FashionMNIST",
    "MLP": "FashionMNIST",
    "CNN": "MNIST",
}
every_system = pytest.mark.parametrize(("network", "dataset"), SYSTEMS.items())
EPOCH_METRICS = {"train/loss", "train/acc", "val/loss", "val/acc"}


def built(network: str, dataset: str, **options: object) -> tuple[classifiers.ImageClassifier, data.ImageDataModule]:
    seed_everything(0, verbose=False)
    classifier = getattr(classifiers, f"{network}Classifier")(**options)
    return classifier, getattr(data, f"{dataset}DataModule")(val_size=20, batch_size=16)


@every_system
def test_it_is_trained_checkpointed_logged_tested_and_loaded(network, dataset, tiny_data, trainer, tmp_path):
    classifier, datamodule = built(network, dataset)
    checkpoint = ModelCheckpoint(tmp_path / "kept", monitor="val/acc", mode="max", save_last=True)
    loggers = [CSVLogger(tmp_path, "csv", ""), TensorBoardLogger(tmp_path, "tb", "")]
    callbacks = [checkpoint, LearningRateMonitor(), EarlyStopping("val/loss", patience=5)]
    run = trainer(max_epochs=2, logger=loggers, callbacks=callbacks, log_every_n_steps=1, limit_train_batches=2)
    assert type(run) is Trainer

    run.fit(classifier, datamodule=datamodule)
    (tested,) = run.test(datamodule=datamodule, ckpt_path="best", weights_only=True, verbose=False)
    probabilities = torch.cat(run.predict(datamodule=datamodule, ckpt_path="best", weights_only=True))

    assert tested.keys() == {"test/loss", "test/acc"}
    best = checkpoint.best_model_path
    assert Path(best).is_file() and (tmp_path / "kept" / "last.ckpt").is_file()
    loaded = lc.load(best)
    assert loaded.class_names == list(datamodule.class_names)
    assert np.allclose(loaded(datamodule.test_set.images), probabilities, atol=1e-5)
    with (tmp_path / "csv" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in EPOCH_METRICS:
        assert len([row for row in rows if row[name]]) == 2, name
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    assert {*EPOCH_METRICS, "test/acc"} <= {*events.Tags()["scalars"]}


@every_system
def test_it_is_resumed(network, dataset, tiny_data, trainer, tmp_path):
    classifier, datamodule = built(network, dataset)
    first = trainer(callbacks=[ModelCheckpoint(tmp_path, save_last=True)], limit_train_batches=2)
    first.fit(classifier, datamodule=datamodule)
    classifier, datamodule = built(network, dataset)
    run = trainer(max_epochs=2, limit_train_batches=2)

    run.fit(classifier, datamodule=datamodule, ckpt_path=tmp_path / "last.ckpt", weights_only=True)

    assert (run.current_epoch, run.global_step) == (2, 4)


@pytest.mark.parametrize(("network", "dataset"), [("ShallowCNN", "FashionMNIST"), ("CNN", "MNIST")])
def test_the_tuner_finds_a_learning_rate_and_a_batch_size(network, dataset, tiny_data, trainer):
    classifier, datamodule = built(network, dataset, optimizer=lambda parameters: SGD(parameters, lr=0.01))
    tuner = Tuner(trainer(max_epochs=20))

    found = tuner.lr_find(classifier, datamodule=datamodule, num_training=16, max_lr=0.1, early_stop_threshold=None)
    size = tuner.scale_batch_size(classifier, datamodule=datamodule, steps_per_trial=1, init_val=4, max_trials=2)

    assert len(found.results["lr"]) == 16 and classifier.lr == found.suggestion() != 0.01
    assert datamodule.batch_size == size == 8
    run = trainer()
    run.fit(classifier, datamodule=datamodule)
    assert run.num_training_batches == 180 // 8  # the last batch has the rest as well
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(found.suggestion())


def test_a_checkpoint_of_it_is_taken_by_the_command_line(tiny_data, trainer, tmp_path, cli):
    classifier, datamodule = built("MLP", "FashionMNIST")
    checkpoint = ModelCheckpoint(tmp_path / "kept", monitor="val/acc", mode="max")
    run = trainer(callbacks=[checkpoint])
    run.fit(classifier, datamodule=datamodule)
    (tested,) = run.test(datamodule=datamodule, ckpt_path="best", weights_only=True, verbose=False)

    outcome = cli("test", checkpoint.best_model_path)

    assert outcome.status == 0, outcome.err
    assert f"Test accuracy: {100 * tested['test/acc']:.2f} %" in outcome.out
