"""Callbacks of Lightning go on exactly where they were, also in the middle of an epoch."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from chaos.common import differences
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import BackboneFinetuning, GradientAccumulationScheduler, ModelPruning
from lightning.pytorch.callbacks.spike import SpikeDetection
from torch import nn
from torch.optim import SGD

from lightning_cnn import checkpoint
from lightning_cnn.callbacks import Checkpoints
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.data import MNISTDataModule

pytestmark = pytest.mark.usefixtures("tiny_data")


class TinyClassifier(ImageClassifier):
    """A backbone that is not trained at first, and a head."""

    def __init__(self) -> None:
        convolutions = nn.Sequential(nn.Conv2d(1, 2, 4, stride=4), nn.Conv2d(2, 2, 3))
        backbone = nn.Sequential(convolutions, nn.Flatten(), nn.Linear(50, 20))
        network = nn.Sequential(backbone, nn.ReLU(), nn.Linear(20, 10))
        super().__init__(network, lambda parameters: SGD(network[2].parameters(), lr=0.1))
        self.backbone = backbone


class Keep(Callback):
    """Keeps the checkpoint of every step."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        last = self.folder / "last.ckpt"
        if last.is_file():
            shutil.copy(last, self.folder / f"{trainer.global_step}.ckpt")


@pytest.mark.parametrize(
    ("make", "steps"),
    [
        (lambda: GradientAccumulationScheduler({0: 1, 1: 2}), 11),
        (lambda: BackboneFinetuning(1, backbone_initial_lr=0.01), 15),
        (lambda: SpikeDetection(window=4), 15),
        (lambda: ModelPruning("l1_unstructured", amount=0.3), 15),
        (lambda: ModelPruning("l1_unstructured", amount=0.3, use_global_unstructured=False), 15),
        (lambda: ModelPruning("random_unstructured", amount=0.3, resample_parameters=True), 15),
        (
            lambda: ModelPruning(
                "ln_structured",
                amount=0.3,
                use_global_unstructured=False,
                parameter_names=["weight"],
                pruning_norm=1,
                pruning_dim=0,
                make_pruning_permanent=False,
                use_lottery_ticket_hypothesis=False,
            ),
            15,
        ),
    ],
    ids=["accumulation", "finetuning", "spikes", "pruning", "pruning of layers", "resampling", "structured"],
)
def test_a_resumed_run_equals_one_that_was_not_stopped(trainer, tmp_path, make, steps):
    def train(folder, *callbacks, resume=None):
        seed_everything(0, verbose=False)
        fitting = trainer(
            ours=True,
            callbacks=[*callbacks, make(), Checkpoints(every_n_steps=1)],
            default_root_dir=tmp_path / folder,
            max_epochs=3,
        )
        fitting.fit(TinyClassifier(), datamodule=MNISTDataModule(batch_size=30, val_size=50), ckpt_path=resume)
        return checkpoint.read(tmp_path / folder / "checkpoints" / "last.ckpt")

    kept = tmp_path / "straight" / "checkpoints"
    straight = train("straight", Keep(kept))
    assert straight["global_step"] == steps
    for step in (3, 5, 7, 10):
        resumed = train(str(step), resume=kept / f"{step}.ckpt")

        assert not list(differences(resumed, straight))


@pytest.mark.parametrize(("precision", "dtype"), [("bf16-true", torch.bfloat16), ("64-true", torch.float64)])
def test_pruned_weights_keep_their_precision(trainer, precision, dtype):
    pruning = ModelPruning("l1_unstructured", amount=0.3)  # rewinds to weights that it has copied before
    fitting = trainer(ours=True, callbacks=[pruning], max_epochs=2, precision=precision)
    model = TinyClassifier()
    fitting.fit(model, datamodule=MNISTDataModule(batch_size=30, val_size=50))

    assert {weight.dtype for weight in model.parameters()} == {dtype}


def test_pruned_weights_are_zero_in_every_checkpoint(trainer, tmp_path):
    pruning = ModelPruning("l1_unstructured", amount=0.5, make_pruning_permanent=False)
    fitting = trainer(ours=True, callbacks=[pruning, Checkpoints(every_n_steps=1)], max_epochs=2)
    data = MNISTDataModule(batch_size=30, val_size=50)
    fitting.fit(TinyClassifier(), datamodule=data)

    for name in ("previous", "last"):
        weights = checkpoint.read(tmp_path / "checkpoints" / f"{name}.ckpt")["state_dict"]
        shares = [(weights[f"network.{layer}.weight"] == 0).float().mean().item() for layer in ("0.2", "2")]
        assert min(shares) > 0.3
        assert list(weights) == list(TinyClassifier().state_dict())
    assert trainer(ours=True).test(TinyClassifier(), data, tmp_path / "checkpoints" / "last.ckpt", verbose=False)


def test_a_spike_of_the_loss_ends_the_run_in_one_line(cli, tiny_data, configs):
    spikes = ("--trainer.callbacks", "lightning.pytorch.callbacks.spike.SpikeDetection", "--trainer.callbacks.rtol", 0)
    plain = ("--plots.enabled", "false", "--dashboard.enabled", "false", "--trainer.precision", "32-true")
    config = configs / "fashion_mnist/mlp.yaml"

    outcome = cli("fit", "--config", config, *plain, "--data.val_size", 50, "--data.batch_size", 10, *spikes)

    assert outcome.status == 1
    assert re.fullmatch(r"lightning-cnn: error: Training spike detected in batch \d+", outcome.err.splitlines()[-1])
    (batches,) = Path("logs").rglob("skip_batches.json")
    assert len(json.loads(batches.read_text())) == 2


def test_the_losses_are_those_of_the_run_that_is_resumed(trainer, tmp_path):
    spikes = SpikeDetection(window=3)
    data = MNISTDataModule(batch_size=30, val_size=50)
    fitting = trainer(ours=True, callbacks=[spikes, Checkpoints()])
    fitting.fit(TinyClassifier(), datamodule=data)
    before = spikes.running_mean.metric_state
    resumed = SpikeDetection(window=3)

    class Compare(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 5:
                self.state = dict(resumed.running_mean.metric_state)

    comparing = Compare()
    again = trainer(ours=True, callbacks=[resumed, comparing, Checkpoints()], max_epochs=2)
    again.fit(TinyClassifier(), datamodule=data, ckpt_path=tmp_path / "checkpoints" / "last.ckpt")

    assert not list(differences(comparing.state, before))
    assert len({value.item() for value in before.values()}) > 3
