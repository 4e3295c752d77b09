"""A run that was interrupted anywhere and resumed has the same result as one that was not."""

import signal
from pathlib import Path

import pytest
from chaos.common import differences
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.cli import ReduceLROnPlateau
from torch.optim.lr_scheduler import OneCycleLR, StepLR

from lightning_cnn import checkpoint
from lightning_cnn.callbacks import Checkpoints
from lightning_cnn.callbacks.metrics_csv import MetricsCSV
from lightning_cnn.classifiers import CNNClassifier
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.data.augment import CropAndRotate
from lightning_cnn.errors import Interrupted

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

    def run(name: str, *callbacks: Callback, scheduler=None, accumulate=1, **options) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        last = folder / "checkpoints" / "last.ckpt"
        resumed = last if last.is_file() else None
        seed_everything(0, verbose=False)
        model = CNNClassifier(scheduler=scheduler)
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
def _uninterrupted() -> list[Path]:
    return []


@pytest.fixture
def whole(train, _uninterrupted) -> Path:
    """The folder of a run that was not interrupted, trained once for all tests."""
    if not _uninterrupted:
        _uninterrupted.append(train("whole"))
    return _uninterrupted[0]


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
        lambda optimizer: OneCycleLR(optimizer, 0.01, total_steps=STEPS),
        lambda optimizer: StepLR(optimizer, 1),
        lambda optimizer: ReduceLROnPlateau(optimizer, "val/loss", patience=0, threshold=10.0),
    ],
    ids=["every step", "every epoch", "on a plateau"],
)
def test_schedules_are_resumed_exactly(train, scheduler):
    require_same(train("whole", scheduler=scheduler), interrupted(train, Signal(2), Signal(5), scheduler=scheduler))


def test_accumulated_batches_are_completed_first(train):
    options = {"accumulate": 2}

    require_same(train("whole", **options), interrupted(train, Signal(1), Signal(2), Signal(4), **options))


def test_runs_with_validations_within_an_epoch_are_resumed_exactly(train):
    options = {"val_check_interval": 2}

    require_same(train("whole", **options), interrupted(train, Signal(2), Signal(4), Signal(8), **options))


def test_a_run_that_has_stopped_early_is_finished(train):
    def early():
        return EarlyStopping("val/acc", mode="max", patience=1, min_delta=2.0)

    folder = train("whole", early(), max_epochs=5)
    reached = checkpoint.read(folder / "checkpoints" / "last.ckpt")["global_step"]

    train("whole", early(), max_epochs=5)

    assert reached == STEPS
    assert checkpoint.read(folder / "checkpoints" / "last.ckpt")["global_step"] == reached


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
