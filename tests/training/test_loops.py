"""A run that was interrupted anywhere and resumed has the same result as one that was not."""

import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from chaos.common import differences
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import ReduceLROnPlateau
from small import SmallClassifier
from torch.optim.lr_scheduler import OneCycleLR, StepLR

from lightning_cnn import checkpoint
from lightning_cnn.callbacks import Checkpoints
from lightning_cnn.callbacks.metrics_csv import MetricsCSV
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.data.augment import CropAndRotate
from lightning_cnn.errors import Interrupted, UserError

pytestmark = pytest.mark.usefixtures("tiny_data")

#: Two epochs of 5 steps.
STEPS = 10


class Signal(Callback):
    """Sends SIGTERM to the run in the middle of a step, or of a validation, or at the end of an epoch."""

    def __init__(self, step: int | None = None, validation: int | None = None, epoch: int | None = None) -> None:
        self.step, self.validation, self.epoch = step, validation, epoch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step + 1 == self.step and not trainer.signals.received:
            signal.raise_signal(signal.SIGTERM)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if not trainer.sanity_checking and trainer.current_epoch == self.validation and batch_idx == 1:
            signal.raise_signal(signal.SIGTERM)

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def train(trainer, tmp_path):
    """Train with everything that is random, resume where the folder has a checkpoint, and return the folder."""

    def run(name: str, *callbacks: Callback, parent=tmp_path, scheduler=None, accumulate=1, **options) -> Path:
        folder = parent / name
        folder.mkdir(exist_ok=True)
        last = folder / "checkpoints" / "last.ckpt"
        resumed = last if last.is_file() else None
        seed_everything(0, verbose=False)
        model = SmallClassifier(scheduler=scheduler)
        data = MNISTDataModule(batch_size=30, val_size=50, eval_batch_size=20, augment=CropAndRotate())
        logger = MetricsCSV(folder, None if resumed is None else checkpoint.read(last)["global_step"])
        settings = {"max_epochs": 2, "log_every_n_steps": 3, "accumulate_grad_batches": accumulate, **options}
        fitting = trainer(
            ours=True, callbacks=[Checkpoints(), *callbacks], logger=logger, default_root_dir=folder, **settings
        )
        fitting.fit(model, datamodule=data, ckpt_path=resumed)
        return folder

    return run


@pytest.fixture(scope="module")
def _kept(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def whole(train, _kept) -> Path:
    """The folder of a run that was not interrupted, trained once for all tests."""
    folder = _kept / "whole"
    return folder if folder.is_dir() else train("whole", parent=_kept)


def require_same(first: Path, second: Path) -> None:
    for name in ("last", "best"):
        contents = [checkpoint.read(run / "checkpoints" / f"{name}.ckpt") for run in (first, second)]
        assert list(differences(*contents)) == []
    assert (first / "metrics.csv").read_text() == (second / "metrics.csv").read_text()


def interrupted(train, *signals: Signal, **options) -> Path:
    for sent in signals:
        with pytest.raises(Interrupted):
            train("interrupted", sent, **options)
    return train("interrupted", **options)


@pytest.mark.parametrize("step", [1, 5, 8])
def test_a_run_is_resumed_exactly_after_any_step(train, whole, step):
    require_same(whole, interrupted(train, Signal(step)))


def test_a_run_that_is_interrupted_at_every_second_step_is_resumed_exactly(train, whole):
    require_same(whole, interrupted(train, *map(Signal, range(2, STEPS, 2))))


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_interrupted_validation_is_repeated(train, whole, epoch):
    require_same(whole, interrupted(train, Signal(validation=epoch)))


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_run_is_resumed_exactly_after_an_epoch(train, whole, epoch):
    require_same(whole, interrupted(train, Signal(epoch=epoch)))


def test_a_run_with_max_steps_is_resumed_exactly(train):
    options = {"max_epochs": -1, "max_steps": 8}

    require_same(train("whole", **options), interrupted(train, Signal(3), Signal(epoch=0), Signal(7), **options))


@pytest.mark.parametrize(
    "scheduler",
    [
        partial(OneCycleLR, max_lr=0.01, total_steps=None),
        lambda optimizer: OneCycleLR(optimizer, 0.01, total_steps=STEPS),
        lambda optimizer: StepLR(optimizer, 1),
        lambda optimizer: ReduceLROnPlateau(optimizer, "val/loss", patience=0, threshold=10.0),
    ],
    ids=["length of the run", "every step", "every epoch", "on a plateau"],
)
def test_schedules_are_resumed_exactly(train, scheduler):
    require_same(train("whole", scheduler=scheduler), interrupted(train, Signal(2), Signal(5), scheduler=scheduler))


def test_accumulated_batches_are_completed_first(train):
    options = {"accumulate": 2}

    require_same(train("whole", **options), interrupted(train, Signal(1), Signal(2), Signal(4), **options))


def test_runs_with_validations_within_an_epoch_are_resumed_exactly(train):
    options = {"val_check_interval": 2}

    require_same(train("whole", **options), interrupted(train, Signal(2), Signal(4), Signal(8), **options))


class Stop(Callback):
    """Stops the training after a step, as Lightning's `Timer` does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = trainer.should_stop or trainer.global_step == self.step


class Killed(Callback):
    """Ends the process, in effect, after the last checkpoint of a training that has stopped."""

    def on_train_end(self, trainer, pl_module):
        raise KeyboardInterrupt


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = checkpoint.read(folder / "checkpoints" / "last.ckpt")["state_dict"]
    return found


def require_same_weights(first: Path, second: Path) -> None:
    assert list(differences(weights(first), weights(second))) == []


def last_step(folder: Path) -> int:
    reached: int = checkpoint.read(folder / "checkpoints" / "last.ckpt")["global_step"]
    return reached


def test_a_run_that_reached_max_steps_inside_an_epoch_goes_on_there(train):
    whole = train("whole", max_steps=9)

    for max_steps in (3, 7, 9):
        train("stopped", max_steps=max_steps)

    require_same(whole, whole.with_name("stopped"))


@pytest.mark.parametrize("step", [2, 5])
def test_a_run_that_a_callback_has_stopped_goes_on(train, whole, step):
    stopped = train("stopped", Stop(step))
    assert last_step(stopped) == step

    train("stopped")

    require_same_weights(whole, stopped)


def test_a_stop_waits_until_accumulated_gradients_are_used(train):
    whole = train("whole", accumulate=2)

    class StopAtBatch(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            trainer.should_stop = trainer.should_stop or batch_idx == 2

    stopped = train("stopped", StopAtBatch(), accumulate=2)
    assert last_step(stopped) == 2
    train("stopped", accumulate=2)

    require_same_weights(whole, stopped)


def early(**options) -> EarlyStopping:
    return EarlyStopping("val/acc", mode="max", min_delta=2.0, **options)  # no accuracy improves by 2


def test_a_run_that_has_stopped_early_goes_on(train):
    folder = train("whole", early(patience=1), max_epochs=5)
    assert last_step(folder) == STEPS

    train("whole", early(patience=3), max_epochs=5)

    assert last_step(folder) == 2 * STEPS


def test_a_run_that_is_killed_when_it_has_stopped_early_is_finished_first(train):
    options = {"max_epochs": 5, "val_check_interval": 2}
    whole = train("whole", early(patience=1), **options)
    with pytest.raises(SystemExit):
        train("killed", Killed(), early(patience=1), **options)

    killed = train("killed", early(patience=1), **options)

    require_same(whole, killed)


def test_early_stopping_decides_again_when_the_minimum_of_epochs_is_reached(train):
    """The third epoch improves, so it must go on after `min_epochs`, though the second one did not."""

    class Accuracies(EarlyStopping):
        def on_validation_end(self, trainer, pl_module):
            if not trainer.sanity_checking:
                trainer.callback_metrics["val/acc"] = torch.tensor([0.5, 0.4, 0.6, 0.5][trainer.current_epoch])
            super().on_validation_end(trainer, pl_module)

    folder = train("whole", Accuracies("val/acc", mode="max", patience=1), min_epochs=3, max_epochs=9)

    assert last_step(folder) == 2 * STEPS


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_weights_of_other_precisions_are_not_rounded(train, precision):
    require_same(train("whole", precision=precision), interrupted(train, Signal(2), Signal(5), precision=precision))


@pytest.mark.parametrize(
    "options",
    [
        {"every_n_train_steps": 3},
        {"every_n_train_steps": 5},
        {"every_n_epochs": 1, "save_on_train_epoch_end": True},
        {"every_n_epochs": 1, "save_on_train_epoch_end": False},
    ],
    ids=["step", "last step", "epoch", "validation"],
)
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "stock"])
def test_a_checkpoint_of_model_checkpoint_is_resumed(trainer, tmp_path, caplog, options, ours):
    """From where Lightning's callback saves, in our Trainer or the stock one, with our Trainer."""

    def fit(ours: bool, *callbacks: Callback, resumed: Path | None = None) -> dict[str, torch.Tensor]:
        seed_everything(0, verbose=False)
        model = SmallClassifier(dropout=0)  # the stock Trainer saves no random state
        data = MNISTDataModule(batch_size=30, val_size=50, eval_batch_size=20, augment=CropAndRotate())
        fitting = trainer(ours=ours, callbacks=[*callbacks], max_epochs=2, default_root_dir=tmp_path)
        fitting.fit(model, datamodule=data, ckpt_path=resumed)
        assert fitting.global_step == STEPS
        return model.state_dict()

    whole = fit(ours, ModelCheckpoint(tmp_path, save_top_k=-1, filename="{step}", **options))
    first = min(tmp_path.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)

    resumed = fit(True, resumed=first)

    assert list(differences(whole, resumed)) == []
    assert "Resume may not be bit-exact" in caplog.text


def test_a_run_can_be_made_longer(train):
    whole = train("whole", max_epochs=3)

    train("longer", max_epochs=2)
    longer = train("longer", max_epochs=3)

    require_same(whole, longer)


def test_a_finished_run_is_unchanged(train):
    folder = train("whole")
    before = (folder / "checkpoints" / "last.ckpt").read_bytes()

    train("whole")

    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == before


def fit_without_seed(trainer, folder: Path, resumed: Path | None = None, **options) -> dict[str, torch.Tensor]:
    data = MNISTDataModule(**{"batch_size": 30, "val_size": 50, "augment": CropAndRotate(), **options})
    torch.manual_seed(5)
    model = SmallClassifier()
    fitting = trainer(ours=True, callbacks=[Checkpoints()], max_epochs=1 + bool(resumed), default_root_dir=folder)
    fitting.fit(model, datamodule=data, ckpt_path=resumed)
    return model.state_dict()


def test_a_run_without_a_common_seed_keeps_its_order(trainer, tmp_path, monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    fit_without_seed(trainer, tmp_path)
    last = tmp_path / "checkpoints" / "last.ckpt"
    first = fit_without_seed(trainer, tmp_path / "first", last)
    seed = torch.initial_seed
    monkeypatch.setattr(torch, "initial_seed", lambda: seed() + 1)  # another process has another one

    assert list(differences(first, fit_without_seed(trainer, tmp_path / "second", last))) == []


@pytest.mark.parametrize("options", [{"val_size": 60}, {"folds": 4, "fold": 1}])
def test_a_run_is_not_resumed_on_other_images(trainer, tmp_path, options):
    fit_without_seed(trainer, tmp_path)

    with pytest.raises(UserError, match=r"the run was trained on 150 images, and these 1\d+ are others"):
        fit_without_seed(trainer, tmp_path, tmp_path / "checkpoints" / "last.ckpt", **options)


def test_a_test_leaves_nothing_to_resume(trainer, tmp_path):
    """Otherwise, a later training without a checkpoint would get the random states of the tested one."""
    model, data = SmallClassifier(), MNISTDataModule(batch_size=30, val_size=50)
    fitting = trainer(ours=True, callbacks=[Checkpoints()], default_root_dir=tmp_path)
    fitting.fit(model, datamodule=data)

    fitting.test(model, datamodule=data, ckpt_path=tmp_path / "checkpoints" / "last.ckpt", verbose=False)

    assert not fitting.fit_loop.resumed


def test_a_finished_run_leaves_nothing_to_resume(trainer, tmp_path):
    model, data = SmallClassifier(), MNISTDataModule(batch_size=30, val_size=50)
    fitting = trainer(ours=True, callbacks=[Checkpoints()], default_root_dir=tmp_path)
    fitting.fit(model, datamodule=data)

    fitting.fit(model, datamodule=data, ckpt_path=tmp_path / "checkpoints" / "last.ckpt")

    assert not fitting.fit_loop.resumed
