"""A NaN or infinity in a training: it must stop in that step, name the tensor, and leave the weights unchanged.

Some are harmless: a ReLU removes negative infinity. Then training must continue, but no checkpoint may contain a
non-finite weight.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch
from chaos.common import Outcome
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.utils.data import DataLoader, TensorDataset

from lightning_cnn.callbacks.divergence import FiniteCheck
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.errors import DivergenceError
from lightning_cnn.startup import filter_warnings

EPOCHS = 2
#: Batches of an epoch, of four images each.
BATCHES = 4
OPTIMIZERS = {
    "fused Adam": Adam,
    "Adam": lambda parameters: Adam(parameters, fused=False),
    "SGD": lambda parameters: SGD(parameters, lr=0.1),
    "SGD with momentum": lambda parameters: SGD(parameters, lr=0.1, momentum=0.9),
}


@dataclass
class Fault:
    """A non-finite value in a training.

    Attributes:
        kind: `weight`, `output`, `loss`, `gradient` (of a weight) or `output gradient`.
        name: Of the weight or the layer.
        value: Replaces one element.
        place: Which element, modulo their number.
        batch: In which batch of the run, from 0.
        is_now: Whether this batch is being computed.
    """

    kind: str
    name: str
    value: float
    place: int
    batch: int
    is_now: bool = False

    def applied_to(self, tensor: Tensor) -> Tensor:
        """Return a copy with the value in it."""
        copy = tensor.clone(memory_format=torch.contiguous_format)
        copy.view(-1)[self.place % copy.numel()] = self.value
        return copy

    def __str__(self) -> str:
        return f"{self.value} as number {self.place} of the {self.kind} {self.name} in batch {self.batch}"


class Classifier(ImageClassifier):
    """A tiny classifier with a fault."""

    fault: Fault

    def __init__(self, optimizer: str) -> None:
        convolution = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
        layers = nn.Sequential(*convolution, nn.Linear(36, 6), nn.ReLU(), nn.Linear(6, 3))
        super().__init__(layers, OPTIMIZERS[optimizer], num_classes=3)

    def put_in(self, fault: Fault) -> None:
        """Register the hooks of the fault."""
        self.fault = fault
        if fault.kind in ("output", "output gradient"):
            self.get_submodule(fault.name).register_forward_hook(self._change_output)
        if fault.kind == "gradient":
            self.get_parameter(fault.name).register_hook(self._change_gradient)

    def _change_gradient(self, gradient: Tensor) -> Tensor:
        return self.fault.applied_to(gradient) if self.fault.is_now else gradient

    def _change_output(self, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        if self.fault.kind == "output gradient":
            if output.requires_grad:
                output = output.clone()
                output.register_hook(self._change_gradient)
            return output
        is_diagnosis = not torch.is_grad_enabled()  # the second forward pass of the failed batch
        return self.fault.applied_to(output) if self.fault.is_now or is_diagnosis else output

    def _step(self, batch, stage):
        loss, logits = super()._step(batch, stage)
        return loss + (self.fault.value if self.fault.kind == "loss" and self.fault.is_now else 0.0), logits


@dataclass
class Oracle(Callback):
    """Activates the fault, and finds in the simplest way where training must stop, and why.

    Attributes:
        accumulate: Batches of a step.
        batch: The current one, from 0.
        losses: Those of this step.
        weights: Their bits before this step.
        step: Where training must stop; None if nowhere.
        named: The first non-finite tensor, as in the message.
    """

    accumulate: int
    batch: int = -1
    losses: list[float] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    step: int | None = None
    named: str = ""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        fault = pl_module.fault
        self.batch += 1
        fault.is_now = self.batch == fault.batch
        if fault.is_now and fault.kind == "weight":
            weight = pl_module.get_parameter(fault.name)
            weight.data = fault.applied_to(weight.data)
        self.weights = bits(pl_module)  # which change only after the last batch of a step
        if self.batch % self.accumulate == 0:
            self.losses = []

    def on_before_backward(self, trainer, pl_module, loss):
        self.losses.append(loss.item())

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        fault = pl_module.fault
        is_loss_non_finite = not all(map(math.isfinite, self.losses))
        gradients = [name for name, p in pl_module.named_parameters() if not torch.isfinite(p.grad).all()]
        if not is_loss_non_finite and not gradients:
            return
        self.step = trainer.global_step
        if fault.kind == "weight":
            self.named = fault.name
        elif is_loss_non_finite:
            self.named = f"the output of {fault.name} (" if fault.kind == "output" else "the loss"
        else:
            self.named = f"the gradient of {fault.name if fault.kind == 'gradient' else gradients[-1]},"


def run(tries: int, seed: int, folder: Path) -> Outcome:
    """Train `tries` times with a fault.

    Args:
        tries: How often.
        seed: Of all random choices.
        folder: An empty folder for the checkpoints.
    """
    random = Random(seed)
    lost = []
    for number in range(tries):
        optimizer, accumulate = random.choice(list(OPTIMIZERS)), random.choice([1, 2])
        fault = random_fault(random)
        torch.manual_seed(random.randrange(2**32))
        if problem := train(fault, optimizer, accumulate, folder / str(number)):
            lost.append(f"try {number} of seed {seed}: {optimizer}, {accumulate} batches a step, {fault}: {problem}")
    return Outcome("NaN or infinity in training", tries, lost)


def random_fault(random: Random) -> Fault:
    """Return a random fault."""
    kind = random.choice(["weight", "output", "loss", "gradient", "output gradient"])
    blank = Classifier("SGD")
    layers = [name for name, layer in blank.named_modules() if name.startswith("network.")]
    weights = [name for name, _ in blank.named_parameters()]
    names = {"output": layers, "output gradient": layers, "loss": ["itself"]}.get(kind, weights)
    value = random.choice([math.nan, math.inf, -math.inf])
    return Fault(kind, random.choice(names), value, random.randrange(10_000), random.randrange(EPOCHS * BATCHES))


def train(fault: Fault, optimizer: str, accumulate: int, folder: Path) -> str:
    """Train with the fault, and return what is wrong with the result."""
    filter_warnings()
    module, oracle = Classifier(optimizer), Oracle(accumulate)
    module.put_in(fault)
    saving = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        accumulate_grad_batches=accumulate,
        callbacks=[oracle, FiniteCheck(), saving],
        limit_val_batches=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    images = torch.randint(256, (4 * BATCHES, 1, 8, 8), dtype=torch.uint8)
    batches = DataLoader(TensorDataset(images, torch.arange(len(images)) % 3), batch_size=4)
    try:
        trainer.fit(module, batches, batches)
    except DivergenceError as error:
        problem = wrong_stop(error, fault, oracle, trainer, module)
    else:
        problem = "it continued" if oracle.step is not None or not all_finite(module.state_dict()) else ""
    saved = [torch.load(path, weights_only=True) for path in folder.glob("*.ckpt")]
    epochs = trainer.global_step * accumulate // BATCHES - (0 if oracle.step is not None else unsaved_epochs(module))
    if len(saved) != epochs:
        return problem or f"{len(saved)} checkpoints were written in {epochs} epochs"
    return problem or ("" if all(all_finite(c["state_dict"]) for c in saved) else "a checkpoint has non-finite weights")


def wrong_stop(error: DivergenceError, fault: Fault, oracle: Oracle, trainer: Trainer, module: Classifier) -> str:
    """Return what is wrong with the error."""
    message = str(error)
    if error.exit_status != 1 or "\n" in message:
        return f"exit status {error.exit_status}, with {message!r}"
    if oracle.step is None:  # found when the checkpoint of the epoch was saved
        expected = f" in {fault.name}, after step {trainer.global_step - 1} "
        is_right = fault.kind == "weight" and trainer.global_step * oracle.accumulate % BATCHES == 0
        return "" if is_right and expected in message else f"no reason to stop, but: {message}"
    if trainer.global_step != oracle.step or f"at step {oracle.step} " not in message:
        return f"not at step {oracle.step}, but at {trainer.global_step}: {message}"
    if f" in {oracle.named}" not in message:
        return f"not {oracle.named}, but: {message}"
    after = bits(module)
    changed = [name for name, before in oracle.weights.items() if not torch.equal(before, after[name])]
    return f"changed weights: {', '.join(changed)}" if changed else ""


def unsaved_epochs(module: Classifier) -> int:
    """Return the number of epochs without a checkpoint, because a weight that changed no output is not finite."""
    return 0 if all_finite(module.state_dict()) else 1


def bits(module: Classifier) -> dict[str, Tensor]:
    """Return a copy of the bits of the weights: a NaN is not equal to itself."""
    return {name: p.detach().clone().view(torch.int32) for name, p in module.named_parameters()}


def all_finite(state: dict[str, Tensor]) -> bool:
    """Whether all values are finite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in state.values())
