"""Distillation: a network learns the probabilities of networks that were trained before it."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.nn import functional

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.config.loading import load_classifier
from lightning_cnn.errors import UserError
from lightning_cnn.files import sha256
from lightning_cnn.run import DEFAULT_ROOT, find_runs, resolve_checkpoint


def distilled(loss: Tensor, logits: Tensor, taught: Tensor, temperature: float, weight: float) -> Tensor:
    """Return the loss of a batch, a scalar: `(1 − weight) · loss + weight · temperature² · KL(taught ‖ student)`.

    The factor `temperature²` keeps the size of the gradients; Hinton, Vinyals and Dean, "Distilling the Knowledge in a
    Neural Network", arXiv:1503.02531, 2015.

    Args:
        loss: The loss for the targets, a scalar.
        logits: Those of the student, `(B, num_classes)`.
        taught: Probabilities at this temperature, `(B, num_classes)`.
        temperature: Divides the logits, more than 0.
        weight: Share of what is taught in the loss, 0 to 1.

    Example:
        >>> logits, taught = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.5, 0.5]])
        >>> distilled(torch.tensor(0.7), logits, taught, temperature=2.0, weight=0.9)
        tensor(0.0700)
    """
    student = (logits / temperature).log_softmax(dim=1)
    divergence = functional.kl_div(student, taught.to(student.dtype), reduction="batchmean")
    return (1 - weight) * loss + weight * temperature**2 * divergence


class Distillation(Callback):
    """Trains with what other networks, the teachers, say of the same augmented images: the mean of their probabilities.

    `train/loss` is the loss with both parts; validation and test are those of the targets alone. Teachers are in eval
    mode, have weights in float32, and must have the classes and the images of the data. Their files are not
    in the checkpoint: a run that is resumed takes them from its own `config.yaml`, or from the command.

    Args:
        teachers: Checkpoints or files of `export` with weights, run folders (for their best checkpoint), or weights of
            this package. None to learn from the targets alone.
        temperature: Divides the logits of student and teachers before the softmax, more than 0: the higher, the more
            the probabilities of wrong classes count.
        weight: Share of what the teachers say in the loss, 0 to 1; the rest is that of the loss for the targets.

    Raises:
        ValueError: If `temperature` or `weight` is out of its range.
    """

    def __init__(self, teachers: list[str] | None = None, temperature: float = 4.0, weight: float = 0.9) -> None:
        if temperature <= 0:
            raise ValueError(f"temperature must be greater than 0, got {temperature}")
        if not 0 <= weight <= 1:
            raise ValueError(f"weight must be between 0 and 1, got {weight}")
        self.teachers = teachers or []
        self.temperature = temperature
        self.weight = weight
        self._models: list[ImageClassifier] = []
        self._digests: list[str] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the teachers.

        Raises:
            UserError: If one cannot be used, or is for other classes or other images.
        """
        if not self.teachers:
            return
        if not isinstance(pl_module, ImageClassifier):
            raise UserError(f"Distillation is for an ImageClassifier, not {type(pl_module).__name__}; leave it out")
        before, self._models, self._digests = self._digests, [], []
        devices = [pl_module.device] if pl_module.device.type == "cuda" else []
        for reference in self.teachers:
            path = resolve_checkpoint(reference, find_runs(DEFAULT_ROOT), folder_means="best")
            content = checkpoints.read(path)
            try:
                with torch.random.fork_rng(devices):  # a network that is built draws its first weights
                    teacher = load_classifier(content)
            except UserError as error:
                raise UserError(f"--distillation.teachers {reference}: {error}") from error
            _require_fitting(reference, teacher, content[checkpoints.KEY]["class_names"], pl_module)
            self._models.append(teacher.requires_grad_(False).to(pl_module.device))
            self._digests.append(sha256(path))
        if before and before != self._digests:
            rank_zero_info("Resume is not bit-exact, because the files of the teachers have changed")
        pl_module.distill = self._distill

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the teachers."""
        self._models = []
        if isinstance(pl_module, ImageClassifier):
            pl_module.distill = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Forget the teachers."""
        self.on_fit_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the SHA-256 of the files of the teachers, but not their names."""
        return {"sha256": self._digests} if self._digests else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep it, to be compared."""
        self._digests = [*state_dict.get("sha256", [])]

    def _distill(self, images: Tensor, logits: Tensor, loss: Tensor) -> Tensor:
        with torch.no_grad():
            softened = [(teacher(images).float() / self.temperature).softmax(dim=1) for teacher in self._models]
        return distilled(loss, logits, torch.stack(softened).mean(dim=0), self.temperature, self.weight)


def _require_fitting(
    reference: str, teacher: ImageClassifier, names: list[str] | None, student: ImageClassifier
) -> None:
    """Refuse a teacher for other images or other classes.

    Raises:
        UserError: If it is one.
    """
    if teacher.image_shape != student.image_shape:
        raise UserError(
            f"--distillation.teachers {reference}: it is for images {teacher.image_shape}, but the data has "
            f"{student.image_shape}; choose a teacher that was trained on such images"
        )
    if teacher.num_classes != student.num_classes or (names is not None and names != student.class_names):
        raise UserError(
            f"--distillation.teachers {reference}: it has other classes than the data, or in another order; choose a "
            "teacher that was trained on the same classes"
        )
