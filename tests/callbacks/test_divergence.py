import math
import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.optim import SGD, Adam
from torch.utils.data import DataLoader, TensorDataset

from lightning_cnn.callbacks import divergence
from lightning_cnn.callbacks.divergence import FiniteCheck
from lightning_cnn.classifiers import FastCNNClassifier, ImageClassifier
from lightning_cnn.errors import DivergenceError

PLAIN = ("--plots.enabled", "false", "--dashboard.enabled", "false", "--trainer.precision", "32-true")
OPTIMIZERS = {
    "fused Adam": Adam,
    "Adam": lambda parameters: Adam(parameters, fused=False),
    "SGD": lambda parameters: SGD(parameters, lr=0.1),
    "SGD with momentum": lambda parameters: SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
}
OPTIMIZERS_AND_VALUES = [*zip(OPTIMIZERS.values(), (math.nan, math.inf, -math.inf, math.nan), strict=True)]


class Fault(nn.Module):
    """An identity that, in one call, replaces the first element of its output or of its gradient.

    Args:
        value: NaN or an infinity.
        call: The call, counted from 0 over training steps.
        backwards: Replace an element of the gradient instead of the output.
    """

    def __init__(self, value: float, call: int, backwards: bool = False) -> None:
        super().__init__()
        self.value = value
        self.call = call
        self.backwards = backwards
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():  # validation, or the repeated forward pass
            return self._replaced(x) if self.training and self.calls > self.call and not self.backwards else x
        self.calls += 1
        if self.calls != self.call + 1:
            return x
        if not self.backwards:
            return self._replaced(x)
        y = x.clone()
        y.register_hook(self._replaced)
        return y

    def _replaced(self, x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x.view(-1)[0] = self.value
        return x


def classifier(fault: nn.Module | None = None, optimizer=Adam) -> ImageClassifier:
    """A small network with the fault where no ReLU follows it."""
    torch.manual_seed(0)
    fault = fault or nn.Identity()
    middle = [fault, nn.ReLU()] if getattr(fault, "backwards", False) else [nn.ReLU(), fault]
    layers = [nn.Flatten(), nn.Linear(784, 8), *middle, nn.Linear(8, 3)]
    return ImageClassifier(nn.Sequential(*layers), optimizer, num_classes=3)


def images(count: int = 20, dtype: torch.dtype = torch.uint8) -> DataLoader:
    torch.manual_seed(0)
    pixels = torch.randint(256, (count, 1, 28, 28)).to(dtype)
    return DataLoader(TensorDataset(pixels, torch.arange(count) % 3), batch_size=4)


@pytest.fixture
def trainer(trainer):
    """Make Lightning's Trainer with a FiniteCheck."""
    return lambda callbacks=(), **options: trainer(callbacks=[*callbacks, FiniteCheck()], **options)


class Weights(Callback):
    """Keeps a copy of the weights before each step, and the number of steps."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.before = [parameter.detach().clone() for parameter in pl_module.parameters()]
        self.step = trainer.global_step


def stopped(trainer, module, loader=None, **options) -> tuple[str, int]:
    """Train until it diverges, check that the step did not change the weights, and return message and step."""
    weights = Weights()
    run = trainer(callbacks=[weights], max_epochs=2, **options)
    with pytest.raises(DivergenceError) as error:
        run.fit(module, loader or images(), images())
    for before, after in zip(weights.before, module.parameters(), strict=True):
        assert torch.equal(before.view(torch.int32), after.view(torch.int32))  # bits, because NaN != NaN
    assert run.global_step == weights.step
    return str(error.value), weights.step


# On the command line


@pytest.mark.parametrize("config", ["fashion_mnist/mlp.yaml", "mnist/cnn.yaml"])  # SGD and Adam
def test_a_learning_rate_that_is_too_high_ends_with_a_one_line_error(cli, tiny_data, configs, tmp_path, config):
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


def test_checkpoints_of_earlier_epochs_are_unchanged(cli, fit):
    soaring = ("--model.scheduler", "StepLR", "--model.scheduler.step_size", 1, "--model.scheduler.gamma", 1e30)
    run = fit("fashion_mnist/mlp.yaml", *soaring, *PLAIN)
    checkpoints = {path: path.read_bytes() for path in run.glob("checkpoints/*.ckpt")}
    assert {path.name for path in checkpoints} >= {"best.ckpt", "last.ckpt"}

    outcome = cli("fit", "--ckpt_path", run, "--trainer.max_epochs", 3)

    assert outcome.status == 1, outcome.err
    assert "in epoch 2 (counted from 1)" in outcome.err
    assert f"the checkpoints in {run / 'checkpoints'} are unchanged;" in outcome.err
    assert {path: path.read_bytes() for path in run.glob("checkpoints/*.ckpt")} == checkpoints
    assert cli("validate", "--ckpt_path", run / "checkpoints" / "last.ckpt").status == 0


# Which tensor is named, and at which step


@pytest.mark.parametrize(("optimizer", "value"), OPTIMIZERS_AND_VALUES, ids=OPTIMIZERS)
def test_names_a_non_finite_output(trainer, optimizer, value):
    message, step = stopped(trainer, classifier(Fault(value, call=3), optimizer))

    assert "in the output of network.3 (Fault), at step 3 (counted from 0) in epoch 1 (counted from 1);" in message
    assert step == 3


@pytest.mark.parametrize(("optimizer", "value"), OPTIMIZERS_AND_VALUES, ids=OPTIMIZERS)
def test_names_a_non_finite_gradient_of_a_finite_loss(trainer, optimizer, value):
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
def test_names_a_non_finite_loss_in_any_accumulated_batch(trainer, call, step):
    module = ImageClassifier(HugeLogits(call), num_classes=3)

    message, stopped_at = stopped(trainer, module, images(24), accumulate_grad_batches=2)

    assert f"diverged: Inf in the loss, at step {step} (counted from 0)" in message
    assert stopped_at == step


@pytest.mark.parametrize(("call", "step"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_names_a_non_finite_output_in_any_accumulated_batch(trainer, call, step):
    message, stopped_at = stopped(trainer, classifier(Fault(math.nan, call)), images(24), accumulate_grad_batches=2)

    assert f"NaN in the output of network.3 (Fault), at step {step} (counted from 0)" in message
    assert stopped_at == step


def test_names_non_finite_images(trainer):
    broken = images(dtype=torch.float32)
    broken.dataset.tensors[0][9, 0, 3, 3] = math.nan

    message, step = stopped(trainer, classifier(), broken)

    assert "diverged: NaN in the images, at step 2 " in message
    assert message.endswith("; check the data and its augmentation (--data.augment)")
    assert step == 2


def test_names_a_non_finite_weight(trainer):
    class Spoil(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 2:
                pl_module.network[1].weight.data[1, 5] = math.nan

    module = classifier()
    run = trainer(callbacks=[Spoil()])
    with pytest.raises(DivergenceError, match=r"NaN in network\.1\.weight, at step 2 "):
        run.fit(module, images(), images())
    assert module.network[1].weight.isnan().sum() == 1


def test_stops_if_another_rank_has_diverged(trainer, monkeypatch):
    run = trainer()
    monkeypatch.setattr(divergence, "_on_all_ranks", lambda trainer, is_finite: False)

    with pytest.raises(DivergenceError, match=r"found on another rank, at step 0 "):
        run.fit(classifier(), images(), images())


def test_suggests_only_what_is_not_set_already(trainer):
    module = classifier(Fault(math.nan, call=0))

    message, _ = stopped(trainer, module, precision="bf16-mixed", gradient_clip_val=0.5)

    assert message.endswith(
        "lower the learning rate, now 0.001 (--model.optimizer.lr), or use a higher precision than bf16-mixed "
        "(--trainer.precision 32-true)"
    )


# Finite values, and gradient scalers


def test_checking_does_not_change_training(trainer, monkeypatch):
    checked, unchecked = classifier(), classifier()
    trainer(max_epochs=2).fit(checked, images(), images())
    monkeypatch.setattr(FiniteCheck, "on_before_optimizer_step", lambda *_: None)
    trainer(max_epochs=2).fit(unchecked, images(), images())

    for first, second in zip(checked.parameters(), unchecked.parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_finite_gradients_whose_sum_overflows_are_accepted(trainer, dtype):
    module = ImageClassifier(HugeLogits(call=1000), lambda parameters: SGD(parameters, lr=0.0), num_classes=3)
    module.network.weight.data = module.network.weight.data.to(dtype)
    module.network.weight.register_hook(lambda gradient: torch.full_like(gradient, 3e38))
    run = trainer()

    run.fit(module, images(), images())

    assert run.global_step == 5


@pytest.fixture
def scaled(trainer):
    """Make a Trainer with a gradient scaler."""
    from lightning.pytorch.plugins import MixedPrecision

    return lambda **options: trainer(
        plugins=MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0)), **options
    )


def test_non_finite_gradients_are_left_to_a_gradient_scaler(scaled):
    module = classifier(Fault(math.inf, call=2, backwards=True), OPTIMIZERS["SGD"])
    run = scaled()

    run.fit(module, images(), images())

    assert run.precision_plugin.scaler.get_scale() == 1.0  # the step was skipped
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_non_finite_losses_are_not_left_to_a_gradient_scaler(scaled):
    message, _ = stopped(scaled, classifier(Fault(math.nan, call=2), OPTIMIZERS["SGD"]))

    assert "NaN in the output of network.3 (Fault), at step 2 " in message
    assert "a higher precision than 16-mixed" in message


# Checkpoints


def test_non_finite_weights_are_not_saved(trainer, tmp_path):
    module = classifier(optimizer=lambda parameters: SGD(parameters, lr=3e38, momentum=0.9))
    saves = ModelCheckpoint(tmp_path / "checkpoints", filename="last", save_on_train_epoch_end=True)
    run = trainer(callbacks=[saves], enable_checkpointing=True, limit_train_batches=1, gradient_clip_val=1e-6)
    run.fit(module, images(), images())
    before = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    module.network[1].weight.data[0, 0] = math.inf

    with pytest.raises(DivergenceError, match=r"Inf in network\.1\.weight, after step 0 .*checkpoints are unchanged"):
        run.save_checkpoint(tmp_path / "checkpoints" / "last.ckpt")

    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == before


@pytest.mark.parametrize("save_on_exception", [False, True])
def test_batch_norm_statistics_of_the_failed_batch_are_not_saved(trainer, tmp_path, save_on_exception):
    module = FastCNNClassifier(num_classes=3)
    broken = images(dtype=torch.float32)
    broken.dataset.tensors[0][9] = math.inf
    saves = ModelCheckpoint(tmp_path / "checkpoints", save_on_exception=save_on_exception)
    run = trainer(callbacks=[saves], enable_checkpointing=True)

    with pytest.raises(DivergenceError):
        run.fit(module, broken, images())

    assert not module.network.features[2].running_mean.isfinite().all()
    assert not list(Path(tmp_path).rglob("*.ckpt"))


def test_the_module_can_be_trained_again(trainer):
    module = classifier(Fault(math.nan, call=1))
    stopped(trainer, module, accumulate_grad_batches=5)

    trainer().fit(module, images(), images())

    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_batches_of_any_type_are_accepted(trainer):
    class Plain(LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def training_step(self, batch, batch_idx):
            return self.layer(batch["x"]).sum() * math.inf

        def configure_optimizers(self):
            return SGD(self.parameters(), lr=0.1)

    loader = DataLoader([{"x": torch.ones(3)}] * 4, batch_size=2)

    with pytest.raises(DivergenceError, match="Inf in the loss, at step 0 "):
        trainer().fit(Plain(), loader)
