"""Averages of weights are what is validated, saved and tested, and go on when a run is resumed."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from chaos.common import differences
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging, WeightAveraging
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR

from lightning_cnn import checkpoint
from lightning_cnn.callbacks import Checkpoints
from lightning_cnn.callbacks.metrics_csv import MetricsCSV
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.errors import Interrupted, UserError
from lightning_cnn.run import Run

pytestmark = pytest.mark.usefixtures("tiny_data")


class TinyClassifier(ImageClassifier):
    """Batch normalisation, whose statistics are averaged or computed again, and dropout, which is random."""

    def __init__(self) -> None:
        layers = [nn.AvgPool2d(4), nn.Flatten(), nn.BatchNorm1d(49), nn.Dropout(0.1), nn.Linear(49, 10)]
        super().__init__(nn.Sequential(*layers), lambda p: SGD(p, lr=0.1), lambda o: StepLR(o, 1))


class Never(WeightAveraging):
    def should_update(self, step_idx=None, epoch_idx=None):
        return False


class Keep(Callback):
    """Keeps the checkpoint of every step, and the weights at the beginning of every epoch; may send a signal."""

    def __init__(self, signal_at=None) -> None:
        self.signal_at = signal_at
        self.weights = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        last = Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
        if last.is_file():
            shutil.copy(last, last.with_name(f"{trainer.global_step}.ckpt"))

    def on_train_epoch_start(self, trainer, pl_module):
        self.weights.append({name: value.clone() for name, value in pl_module.named_parameters()})

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if not trainer.sanity_checking and (trainer.current_epoch, batch_idx) == self.signal_at:
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def train(trainer, tmp_path):
    """Train for three epochs of five steps, from a checkpoint if one is given, and return the trainer."""

    def run(folder: str, *callbacks: Callback, resume: Path | None = None, **options):
        seed_everything(0, verbose=False)
        logger = MetricsCSV(tmp_path / folder, None if resume is None else checkpoint.read(resume)["global_step"])
        fitting = trainer(
            ours=True,
            callbacks=[*callbacks, Checkpoints(every_n_steps=1)],
            logger=logger,
            default_root_dir=tmp_path / folder,
            **{"max_epochs": 3, "log_every_n_steps": 2, **options},
        )
        data = MNISTDataModule(batch_size=30, val_size=50, eval_batch_size=20)
        fitting.fit(TinyClassifier(), datamodule=data, ckpt_path=resume)
        return fitting

    (tmp_path / "straight").mkdir()
    return run


def same(one, other) -> bool:
    return not list(differences(one, other))


def content(folder: Path, name: str) -> dict:
    return checkpoint.read(folder / "checkpoints" / f"{name}.ckpt")


def val_accs(folder: Path) -> list[float]:
    return [value for _, value in Run(folder).read_metric("val/acc")]


def average(**settings):
    return EMAWeightAveraging(**{"decay": 0.5, **settings})


# Running averages


@pytest.mark.parametrize("make", [Never, lambda: average(update_starting_at_step=1000)])
def test_an_average_without_updates_is_the_current_weights(train, tmp_path, make):
    train("without")

    fitted = train("with", make())

    assert val_accs(tmp_path / "with") == val_accs(tmp_path / "without")
    for name in ("best", "last"):
        assert same(*(content(tmp_path / f, name)["state_dict"] for f in ("with", "without")))
    assert same(dict(fitted.model.state_dict()), content(tmp_path / "with", "last")["state_dict"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: average(update_starting_at_step=7),
        lambda: average(update_every_n_steps=0, update_starting_at_epoch=1),
        lambda: average(use_buffers=False),
    ],
    ids=["steps", "epochs", "without buffers"],
)
def test_the_saved_weights_are_those_that_were_validated(train, tmp_path, make):
    fitted = train("run", make())

    for name, model in (("best", None), ("last", None), ("last", TinyClassifier())):
        saved = content(tmp_path / "run", name)
        fitted.validate(model, datamodule=MNISTDataModule(val_size=50), ckpt_path=name, verbose=False)
        validated = saved["lightning_cnn"]["metrics"]
        assert fitted.callback_metrics["val/loss"].item() == pytest.approx(validated["val/loss"], rel=1e-6)
        assert same(dict(fitted.lightning_module.state_dict()), saved["state_dict"])
        assert not same(saved["state_dict"], saved["current_model_state"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: average(update_starting_at_step=7),
        lambda: average(update_every_n_steps=0, update_starting_at_epoch=1),
        lambda: StochasticWeightAveraging(0.03, swa_epoch_start=2, annealing_epochs=2),
        lambda: StochasticWeightAveraging([0.03], swa_epoch_start=0.7, annealing_strategy="linear"),
    ],
    ids=["steps", "epochs", "stochastic", "stochastic, linear"],
)
def test_a_resumed_run_averages_as_one_that_was_not_stopped(train, tmp_path, make):
    straight = train("straight", Keep(), make())
    folder = tmp_path / "straight"
    for step in (3, 5, 7, 10):  # averaging starts after step 5 or 10
        (tmp_path / str(step)).mkdir()
        shutil.copy(folder / "metrics.csv", tmp_path / str(step))

        resumed = train(str(step), make(), resume=folder / "checkpoints" / f"{step}.ckpt")

        assert same(content(tmp_path / str(step), "last"), content(folder, "last"))
        assert (tmp_path / str(step) / "metrics.csv").read_bytes() == (folder / "metrics.csv").read_bytes()
        assert same(*(dict(fitted.model.state_dict()) for fitted in (resumed, straight)))


@pytest.mark.parametrize("settings", [{}, {"update_every_n_steps": 0, "update_starting_at_epoch": 0}])
def test_a_validation_that_was_interrupted_saves_the_average(train, tmp_path, settings):
    train("straight", average(**settings))
    with pytest.raises(Interrupted):
        train("stopped", Keep(signal_at=(1, 1)), average(**settings))
    assert not same(*(content(tmp_path / "stopped", "last")[key] for key in ("state_dict", "current_model_state")))

    train("stopped", average(**settings), resume=tmp_path / "stopped" / "checkpoints" / "last.ckpt")

    assert same(*(content(tmp_path / folder, "last") for folder in ("straight", "stopped")))


@pytest.mark.parametrize("make", [average, lambda: StochasticWeightAveraging(0.03, swa_epoch_start=1)])
def test_averages_have_the_precision_of_the_model(train, tmp_path, make):
    train("without", precision="64-true", max_epochs=1)

    fitted = train("with", make(), precision="64-true", max_epochs=1)

    saved = content(tmp_path / "with", "last")
    state = saved.get("current_model_state", saved["state_dict"])
    assert same(state, content(tmp_path / "without", "last")["state_dict"])
    (callback,) = (c for c in fitted.callbacks if isinstance(c, WeightAveraging | StochasticWeightAveraging))
    assert {p.dtype for p in callback._average_model.parameters()} == {torch.float64}


def test_only_one_callback_averages(train):
    with pytest.raises(UserError, match="StochasticWeightAveraging and EMAWeightAveraging would both replace"):
        train("run", StochasticWeightAveraging(0.03), average())


# Stochastic averages


def test_the_model_ends_with_its_average_and_the_statistics_of_that(train, tmp_path):
    kept = Keep()

    fitted = train("run", StochasticWeightAveraging(0.03, swa_epoch_start=2), kept)

    model = fitted.lightning_module
    for name, value in model.named_parameters():  # of the weights at the beginning of epochs 2 and 3
        torch.testing.assert_close(value, (kept.weights[1][name] + kept.weights[2][name]) / 2)
    batches = list(fitted.train_dataloader)
    inputs = [model.network[:2](model.preprocess(images)) for images, _ in batches]
    torch.testing.assert_close(model.network[2].running_mean, torch.stack([x.mean(0) for x in inputs]).mean(0))
    assert model.network[2].momentum == 0.1
    assert content(tmp_path / "run", "last")["epoch"] == 3
    assert not same(dict(model.state_dict()), content(tmp_path / "run", "last")["state_dict"])


@pytest.mark.parametrize("options", [{"max_epochs": 3}, {"max_epochs": -1, "max_steps": 7}])
def test_without_an_average_the_model_keeps_its_weights(train, tmp_path, caplog, options):
    fitted = train("run", StochasticWeightAveraging(0.03, swa_epoch_start=9), **options)

    assert same(dict(fitted.model.state_dict()), content(tmp_path / "run", "last")["state_dict"])
    assert "training has ended before the epoch in which averaging starts" in caplog.text


def test_the_stochastic_average_is_validated_saved_and_tested(fit, cli):
    swa = ["--trainer.callbacks", "StochasticWeightAveraging", "--trainer.callbacks.swa_lrs", 0.1]
    swa += ["--trainer.callbacks.swa_epoch_start", 1]

    run = fit("fashion_mnist/mlp.yaml", "--trainer.max_epochs", 2, *swa, "--test", "true")

    file = run / "checkpoints" / "swa.ckpt"
    average, last = checkpoint.read(file), content(run, "last")
    callback = last["callbacks"]["StochasticWeightAveraging"]["average_model_state"]
    names = [name for name in callback if name.startswith("network")]
    assert same({n: average["state_dict"][n] for n in names}, {n: callback[n] for n in names})
    assert average["lightning_cnn"]["config"] == last["lightning_cnn"]["config"]
    assert json.loads((run / "test_metrics.json").read_text())["checkpoint"] == str(file)
    evaluated = cli("validate", file)
    assert str(average["lightning_cnn"]["metrics"]["val/acc"]) in evaluated.out
    assert "has no training state to resume" in cli("fit", file, "--trainer.max_epochs", 3).err
    before = file.stat().st_mtime_ns
    again = cli("fit", run)
    assert "nothing left to train" in again.out and f"Averaged:   {file} (val/acc" in again.out
    assert file.stat().st_mtime_ns == before
    file.unlink()  # as if the process had been killed before
    assert cli("fit", run).status == 0
    assert same(checkpoint.read(file)["state_dict"], average["state_dict"])
