import math
import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.optim import SGD, Adam
from torch.utils.data import DataLoader, TensorDataset

from lightning_cnn.classifiers import FastCNNClassifier, ImageClassifier, divergence
from lightning_cnn.errors import DivergenceError

PLAIN = ("--plots.enabled", "false", "--dashboard.enabled", "false", "--trainer.precision", "32-true")
OPTIMIZERS = {
    "fused Adam": Adam,
    "Adam": lambda parameters: Adam(parameters, fused=False),
    "SGD": lambda parameters: SGD(parameters, lr=0.1),
    "SGD with momentum": lambda parameters: SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
}


class Fault(nn.Module):
    """Lets everything through, but in one call a value takes the place of the first number of its output or gradient.

    Args:
        value: NaN or an infinity.
        call: Which one, from 0; those of training alone count.
        backwards: Whether it is the gradient that is spoilt.
    """

    def __init__(self, value: float, call: int, backwards: bool = False) -> None:
        super().__init__()
        self.value = value
        self.call = call
        self.backwards = backwards
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():  # validation, or the second look at the batch that has failed
            return self._spoilt(x) if self.training and self.calls > self.call and not self.backwards else x
        self.calls += 1
        if self.calls != self.call + 1:
            return x
        if not self.backwards:
            return self._spoilt(x)
        y = x.clone()
        y.register_hook(self._spoilt)
        return y

    def _spoilt(self, x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x.view(-1)[0] = self.value
        return x


def classifier(fault: nn.Module | None = None, optimizer=Adam) -> ImageClassifier:
    """A small network, with the fault where no rectifier hides it."""
    torch.manual_seed(0)
    fault = fault or nn.Identity()
    middle = [fault, nn.ReLU()] if getattr(fault, "backwards", False) else [nn.ReLU(), fault]
    layers = [nn.Flatten(), nn.Linear(784, 8), *middle, nn.Linear(8, 3)]
    return ImageClassifier(nn.Sequential(*layers), optimizer, num_classes=3)


def images(count: int = 20, dtype: torch.dtype = torch.uint8) -> DataLoader:
    torch.manual_seed(0)
    pixels = torch.randint(256, (count, 1, 28, 28)).to(dtype)
    return DataLoader(TensorDataset(pixels, torch.arange(count) % 3), batch_size=4)


class Weights(Callback):
    """Remembers the weights before the step that is about to be taken, and how many were taken."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.before = [parameter.detach().clone() for parameter in pl_module.parameters()]
        self.step = trainer.global_step


def stopped(trainer, module, loader=None, **options) -> tuple[str, int]:
    """Train until it diverges; return the message and the step, and hold that the weights are as before it."""
    weights = Weights()
    run = trainer(callbacks=[weights], max_epochs=2, **options)
    with pytest.raises(DivergenceError) as error:
        run.fit(module, loader or images(), images())
    for before, after in zip(weights.before, module.parameters(), strict=True):
        assert torch.equal(before.view(torch.int32), after.view(torch.int32))  # bits, because NaN is not NaN
    assert run.global_step == weights.step
    return str(error.value), weights.step


# On the command line


@pytest.mark.parametrize("config", ["fashion_mnist/mlp.yaml", "mnist/cnn.yaml"])  # SGD and Adam
def test_a_rate_that_is_too_high_ends_in_one_line(cli, tiny_data, configs, tmp_path, config):
    outcome = cli("fit", "--config", configs / config, "--model.optimizer.lr", 1e30, "--data.val_size", 50, *PLAIN)

    assert outcome.status == 1
    (line,) = [line for line in outcome.err.splitlines() if "error" in line]
    found = r"lightning-cnn: error: training has diverged: (Inf|NaN) in the output of network\.layers\.3 \(\w+\), "
    assert re.match(found, line)
    assert "at step 1 (counted from 0) in epoch 1 (counted from 1); there is no checkpoint yet;" in line
    assert "lower the learning rate, now 1e+30 (--model.optimizer.lr)" in line
    assert "(--trainer.gradient_clip_val 1.0)" in line
    assert "32-true" not in line
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.rglob("*.ckpt"))


def test_checkpoints_of_earlier_epochs_stay_as_they_are(cli, fit):
    soaring = ("--model.scheduler", "StepLR", "--model.scheduler.step_size", 1, "--model.scheduler.gamma", 1e30)
    run = fit("fashion_mnist/mlp.yaml", *soaring, *PLAIN)
    checkpoints = {path: path.read_bytes() for path in run.glob("checkpoints/*.ckpt")}
    assert {path.name for path in checkpoints} >= {"best.ckpt", "last.ckpt"}

    outcome = cli("fit", "--ckpt_path", run, "--trainer.max_epochs", 3)

    assert outcome.status == 1, outcome.err
    assert "in epoch 2 (counted from 1)" in outcome.err
    assert f"the checkpoints in {run / 'checkpoints'} are as they were;" in outcome.err
    assert {path: path.read_bytes() for path in run.glob("checkpoints/*.ckpt")} == checkpoints
    assert cli("validate", "--ckpt_path", run / "checkpoints" / "last.ckpt").status == 0


# What is named, and when


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_output(trainer, optimizer, value):
    message, step = stopped(trainer, classifier(Fault(value, call=3), optimizer))

    assert "in the output of network.3 (Fault), at step 3 (counted from 0) in epoch 1 (counted from 1);" in message
    assert step == 3


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_gradient_of_a_finite_loss(trainer, optimizer, value):
    message, step = stopped(trainer, classifier(Fault(value, call=7, backwards=True), optimizer))

    kind = "NaN" if math.isnan(value) else "Inf"
    assert f"{kind} in the gradient of network.1.bias, at step 7 (counted from 0) in epoch 2" in message
    assert step == 7


class HugeLogits(nn.Module):
    """From some call on, logits so far apart that their loss is infinite, but its gradient is finite."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.calls = -call

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += torch.is_grad_enabled()
        logits = self.weight.expand(len(images), 3)
        return logits + (torch.tensor([3e38, -3e38, 0]) if self.calls > 0 else 0)


@pytest.mark.parametrize(("call", "step"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_a_loss_alone_in_any_batch_of_a_step(trainer, call, step):
    module = ImageClassifier(HugeLogits(call), num_classes=3)

    message, stopped_at = stopped(trainer, module, images(24), accumulate_grad_batches=2)

    assert f"diverged: Inf in the loss, at step {step} (counted from 0)" in message
    assert stopped_at == step


@pytest.mark.parametrize(("call", "step"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_an_output_in_any_batch_of_a_step(trainer, call, step):
    message, stopped_at = stopped(trainer, classifier(Fault(math.nan, call)), images(24), accumulate_grad_batches=2)

    assert f"NaN in the output of network.3 (Fault), at step {step} (counted from 0)" in message
    assert stopped_at == step


def test_the_images(trainer):
    broken = images(dtype=torch.float32)
    broken.dataset.tensors[0][9, 0, 3, 3] = math.nan

    message, step = stopped(trainer, classifier(), broken)

    assert "diverged: NaN in the images, at step 2 " in message
    assert message.endswith("; look at what makes them (--data.augment)")
    assert step == 2


def test_a_weight(trainer):
    class Spoil(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 2:
                pl_module.network[1].weight.data[1, 5] = math.nan

    module = classifier()
    run = trainer(callbacks=[Spoil()])
    with pytest.raises(DivergenceError, match=r"NaN in network\.1\.weight, at step 2 "):
        run.fit(module, images(), images())
    assert module.network[1].weight.isnan().sum() == 1


def test_another_process(trainer, monkeypatch):
    run = trainer()
    monkeypatch.setattr(divergence, "_in_all_processes", lambda trainer, is_finite: False)

    with pytest.raises(DivergenceError, match=r"another process has found it, at step 0 "):
        run.fit(classifier(), images(), images())


def test_the_ways_out_are_those_that_are_left(trainer):
    module = classifier(Fault(math.nan, call=0))

    message, _ = stopped(trainer, module, precision="bf16-mixed", gradient_clip_val=0.5)

    assert message.endswith(
        "lower the learning rate, now 0.001 (--model.optimizer.lr), or compute more precisely than bf16-mixed "
        "(--trainer.precision 32-true)"
    )


# What is left alone


def test_looking_changes_nothing_in_what_is_learned(trainer, monkeypatch):
    watched, alone = classifier(), classifier()
    trainer(max_epochs=2).fit(watched, images(), images())
    monkeypatch.setattr(ImageClassifier, "on_before_optimizer_step", lambda self, optimizer: None)
    trainer(max_epochs=2).fit(alone, images(), images())

    for first, second in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_whose_sum_overflows_are_finite(trainer, dtype):
    module = ImageClassifier(HugeLogits(call=1000), lambda parameters: SGD(parameters, lr=0.0), num_classes=3)
    module.network.weight.data = module.network.weight.data.to(dtype)
    module.network.weight.register_hook(lambda gradient: torch.full_like(gradient, 3e38))
    run = trainer()

    run.fit(module, images(), images())

    assert run.global_step == 5


@pytest.fixture
def scaled(trainer):
    """Make a trainer with a gradient scaler."""
    from lightning.pytorch.plugins import MixedPrecision

    return lambda **options: trainer(
        plugins=MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0)), **options
    )


def test_gradients_are_the_scalers_business(scaled):
    module = classifier(Fault(math.inf, call=2, backwards=True), OPTIMIZERS["SGD"])
    run = scaled()

    run.fit(module, images(), images())

    assert run.precision_plugin.scaler.get_scale() == 1.0  # it has passed over a step
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_losses_are_not(scaled):
    message, _ = stopped(scaled, classifier(Fault(math.nan, call=2), OPTIMIZERS["SGD"]))

    assert "NaN in the output of network.3 (Fault), at step 2 " in message
    assert "more precisely than 16-mixed" in message


# Checkpoints


def test_weights_that_the_last_step_has_spoilt_go_into_no_checkpoint(trainer, tmp_path):
    module = classifier(optimizer=lambda parameters: SGD(parameters, lr=3e38, momentum=0.9))
    saves = ModelCheckpoint(tmp_path / "checkpoints", filename="last", save_on_train_epoch_end=True)
    run = trainer(callbacks=[saves], enable_checkpointing=True, limit_train_batches=1, gradient_clip_val=1e-6)
    run.fit(module, images(), images())
    before = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    module.network[1].weight.data[0, 0] = math.inf

    with pytest.raises(
        DivergenceError, match=r"Inf in network\.1\.weight, after step 0 .*checkpoints are as they were"
    ):
        run.save_checkpoint(tmp_path / "checkpoints" / "last.ckpt")

    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == before


@pytest.mark.parametrize("save_on_exception", [False, True])
def test_statistics_of_the_failed_batch_go_into_no_checkpoint(trainer, tmp_path, save_on_exception):
    module = FastCNNClassifier(num_classes=3)
    broken = images(dtype=torch.float32)
    broken.dataset.tensors[0][9] = math.inf
    saves = ModelCheckpoint(tmp_path / "checkpoints", save_on_exception=save_on_exception)
    run = trainer(callbacks=[saves], enable_checkpointing=True)

    with pytest.raises(DivergenceError):
        run.fit(module, broken, images())

    assert not module.network.features[2].running_mean.isfinite().all()
    assert not list(Path(tmp_path).rglob("*.ckpt"))


def test_another_training_can_follow(trainer):
    module = classifier(Fault(math.nan, call=1))
    stopped(trainer, module, accumulate_grad_batches=5)

    trainer().fit(module, images(), images())

    assert all(parameter.isfinite().all() for parameter in module.parameters())
