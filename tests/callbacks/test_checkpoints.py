import os
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.utilities import _scan_checkpoints
from small import SmallClassifier

from lightning_cnn import checkpoint
from lightning_cnn.callbacks import Checkpoints
from lightning_cnn.callbacks.metrics_csv import MetricsCSV
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.errors import UserError

pytestmark = pytest.mark.usefixtures("tiny_data")

#: Batches of an epoch.
STEPS = 5


class Saves(Callback):
    """Records, at each step, the steps of the last and of the previous checkpoint."""

    def __init__(self, folder):
        self.folder = folder
        self.last, self.previous = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.last.append(self.step_of("last"))
        self.previous.append(self.step_of("previous"))

    def step_of(self, name):
        path = self.folder / "checkpoints" / f"{name}.ckpt"
        return checkpoint.read(path)["global_step"] if path.is_file() else None


@pytest.fixture
def saved(trainer, tmp_path):
    """Train two epochs and return the recorded saves."""

    def run(checkpoints, *callbacks, **options):
        saves = Saves(tmp_path)
        seed_everything(0, verbose=False)
        fitting = trainer(ours=True, callbacks=[checkpoints, saves, *callbacks], **{"max_epochs": 2, **options})
        fitting.fit(SmallClassifier(), datamodule=MNISTDataModule(batch_size=30, val_size=50))
        return saves

    return run


def test_by_default_it_saves_after_each_epoch(saved):
    saves = saved(Checkpoints())

    assert saves.last == [None] * STEPS + [STEPS] * STEPS
    assert (saves.step_of("last"), saves.step_of("previous")) == (10, 5)


def test_it_saves_every_n_steps(saved):
    saves = saved(Checkpoints(every_n_steps=2))

    assert saves.last == [None, None, 2, 2, 4, 5, 6, 6, 8, 8]
    assert saves.previous == [None, None, None, None, 2, 4, 5, 5, 6, 6]


def test_it_saves_every_n_minutes(saved, monkeypatch):
    seconds = iter(range(0, 100_000, 25))
    monkeypatch.setattr("lightning_cnn.callbacks.checkpoints.monotonic", lambda: next(seconds))

    saves = saved(Checkpoints(every_n_minutes=1), max_epochs=1)

    assert saves.last == [None, None, None, 3, 3]  # each reading of the clock takes 25 s, and a save is one more


def test_saving_more_often_does_not_change_the_training(saved, tmp_path):
    contents = []
    for checkpoints in (Checkpoints(), Checkpoints(every_n_steps=1), Checkpoints(every_n_minutes=1e-6)):
        saved(checkpoints)
        contents.append(checkpoint.read(tmp_path / "checkpoints" / "last.ckpt"))
    plain, *others = contents

    for often in others:
        assert plain["lightning_cnn"]["metrics"] == often["lightning_cnn"]["metrics"]
        assert plain["state_dict"].keys() == often["state_dict"].keys()
        assert all(torch.equal(tensor, often["state_dict"][name]) for name, tensor in plain["state_dict"].items())


def test_the_best_has_the_highest_accuracy(saved, tmp_path):
    accuracies = []

    class Accuracies(Callback):
        values = iter([0.5, 0.75, 0.75, 0.25])

        def on_validation_end(self, trainer, pl_module):
            if not trainer.sanity_checking:
                trainer.callback_metrics["val/acc"] = torch.tensor(next(self.values))
                accuracies.append(trainer.current_epoch)

    checkpoints = Checkpoints()
    saves = saved(checkpoints, Accuracies(), max_epochs=4)

    assert accuracies == [0, 1, 2, 3]
    assert saves.step_of("best") == 2 * STEPS  # of two equal ones, the first
    assert checkpoints.best_model_score == 0.75
    assert checkpoints.best_model_path == str(tmp_path / "checkpoints" / "best.ckpt")
    assert checkpoints.last_model_path == str(tmp_path / "checkpoints" / "last.ckpt")


def test_nan_is_not_the_best(saved):
    class NaN(Callback):
        def on_validation_end(self, trainer, pl_module):
            trainer.callback_metrics["val/acc"] = torch.tensor(float("nan"))

    saves = saved(Checkpoints(), NaN(), EarlyStopping("val/loss"))

    assert saves.step_of("best") is None
    assert saves.step_of("last") == 10


def test_without_validation_there_is_no_best(saved, tmp_path):
    saved(Checkpoints(), limit_val_batches=0)

    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt"}


def test_partial_files_of_a_killed_process_are_removed(saved, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".last.ckpt.abc.part").write_bytes(b"half")

    saved(Checkpoints())

    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_without_hard_links_it_copies(saved, monkeypatch):
    def no_links(*_):
        raise OSError("Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)

    saves = saved(Checkpoints())

    assert (saves.step_of("last"), saves.step_of("previous")) == (10, 5)


@pytest.mark.parametrize("options", [{"every_n_steps": 0}, {"every_n_minutes": 0.0}, {"every_n_minutes": float("nan")}])
def test_arguments_out_of_range_are_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be"):
        Checkpoints(**options)


def test_the_monitored_metric_can_be_minimised(saved):
    checkpoints = Checkpoints(monitor="val/loss", mode="min")

    class Losses(Callback):
        values = iter([0.5, 0.25, 0.75])

        def on_validation_end(self, trainer, pl_module):
            if not trainer.sanity_checking:
                trainer.callback_metrics["val/loss"] = torch.tensor(next(self.values))

    saves = saved(checkpoints, Losses(), max_epochs=3)

    assert saves.step_of("best") == 2 * STEPS
    assert checkpoints.best_model_score == 0.25


@pytest.mark.parametrize("options", [{}, {"num_sanity_val_steps": 0}])
def test_a_metric_that_is_never_logged_is_refused(saved, options):
    with pytest.raises(UserError, match=r"^--checkpoints.monitor val/accuracy: this metric is not logged; .*'val/acc'"):
        saved(Checkpoints(monitor="val/accuracy"), **options)


def test_a_training_metric_can_be_monitored_without_validation(saved):
    assert saved(Checkpoints(monitor="train/acc"), limit_val_batches=0).step_of("best") is not None


def test_it_is_the_checkpoint_callback_of_the_trainer(trainer):
    checkpoints = Checkpoints()

    assert trainer(ours=True, callbacks=[checkpoints]).checkpoint_callback is checkpoints


def test_loggers_see_every_checkpoint(saved):
    class Logger(CSVLogger):
        seen: ClassVar = []

        def after_save_checkpoint(self, checkpoint_callback):
            scored = checkpoint_callback.best_model_path, checkpoint_callback.best_model_score
            self.seen.append((checkpoint_callback.last_model_path, *scored))

    checkpoints = Checkpoints()
    saved(checkpoints, logger=Logger("logs"))

    assert len(Logger.seen) == 2
    assert Logger.seen[-1][0] == checkpoints.last_model_path


def test_loggers_that_upload_checkpoints_find_the_best_and_the_last(saved):
    class Uploads(CSVLogger):
        uploaded: ClassVar = []

        def after_save_checkpoint(self, checkpoint_callback):
            self.callback = checkpoint_callback

        def finalize(self, status):  # as those of Lightning for MLflow and Weights & Biases
            super().finalize(status)
            self.uploaded += [(Path(path).name, tag) for _, path, _, tag in _scan_checkpoints(self.callback, {})]

    saved(Checkpoints(), logger=Uploads("logs"))

    assert sorted(Uploads.uploaded) == [("best.ckpt", "best_k"), ("last.ckpt", "latest")]


def test_logs_are_saved_before_a_checkpoint_in_mid_epoch(saved):
    order = []

    class Logger(CSVLogger):
        def save(self):
            order.append("logs")

        def after_save_checkpoint(self, checkpoint_callback):
            order.append("checkpoint")

    saved(Checkpoints(every_n_steps=2), logger=Logger("logs"), max_epochs=1, log_every_n_steps=1000)

    assert order.count("checkpoint") == 3
    assert all(order[i - 1] == "logs" for i, name in enumerate(order) if name == "checkpoint")


def test_metrics_of_a_callback_are_written_before_the_next_checkpoint(saved, tmp_path):
    class Logs(Callback):
        """Logs at the start of a step, as `LearningRateMonitor` does, and looks for it at the start of the next."""

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step:
                assert f",{trainer.global_step - 1},0.5" in (tmp_path / "metrics.csv").read_text()
            trainer.logger.log_metrics({"rate": 0.5}, step=trainer.global_step)

    saved(Checkpoints(every_n_steps=1), Logs(), logger=MetricsCSV(tmp_path), log_every_n_steps=1000)


def test_a_model_checkpoint_of_the_user_works_beside_it(saved, tmp_path):
    saves = saved(Checkpoints(), ModelCheckpoint(tmp_path / "own", filename="{epoch}", save_top_k=-1))

    assert saves.step_of("last") == 10
    assert len(list((tmp_path / "own").iterdir())) == 2


def test_the_last_checkpoint_of_another_callback_has_another_name(saved, tmp_path):
    checkpoints = Checkpoints()

    saved(checkpoints, ModelCheckpoint(save_last=True))

    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["ModelCheckpoint-last.ckpt", "best.ckpt", "epoch=1-step=10.ckpt", "last.ckpt", "previous.ckpt"]
    paths = (tmp_path / "checkpoints" / f"{name}.ckpt" for name in ("ModelCheckpoint-last", "last"))
    assert [checkpoint.read(path)["loops"][checkpoint.RESUME_KEY]["at_step_boundary"] for path in paths] == [
        False,
        True,
    ]


@pytest.mark.parametrize("name", ["best", "last", "previous"])
def test_names_of_the_checkpoints_of_a_run_are_refused_for_others(saved, tmp_path, name):
    with pytest.raises(UserError, match=f"ModelCheckpoint would save {name}.ckpt, which the run saves itself"):
        saved(Checkpoints(), ModelCheckpoint(filename=name))

    saved(Checkpoints(), ModelCheckpoint(tmp_path / "own", filename=name), max_epochs=1)
    assert (tmp_path / "own" / f"{name}.ckpt").is_file()


def test_lightnings_trainer_is_refused_because_nothing_would_be_saved(tmp_path):
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, callbacks=[Checkpoints()], logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip

    with pytest.raises(UserError, match=r"^Checkpoints saves at the step boundaries of lightning_cnn\.tra"):
        trainer.fit(SmallClassifier(), datamodule=MNISTDataModule(val_size=50))

    assert list(tmp_path.iterdir()) == []
