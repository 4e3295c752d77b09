"""The training loss in plain lines."""

import sys
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from lightning_cnn.text import encodable


class PrintLoss(Callback):
    """Prints the training loss of a batch and the position in the epoch, `epoch 1 · loss: 2.2970 [ 6400/55000]`.

    Both count all processes.

    Args:
        every_n_batches: Batches between two lines, at least 1.

    Raises:
        ValueError: If `every_n_batches` is below 1.
    """

    def __init__(self, every_n_batches: int = 100) -> None:
        if every_n_batches < 1:
            raise ValueError(f"every_n_batches must be at least 1, got {every_n_batches}")
        self.every_n_batches = every_n_batches
        self._seen = 0

    def state_dict(self) -> dict[str, int]:
        """Return the number of images of the epoch so far."""
        return {"seen": self._seen}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restore it."""
        self._seen = state_dict["seen"]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the number of images."""
        self._seen = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Count the images, and print every `every_n_batches` batches."""
        self._seen += len(batch[1]) * trainer.world_size
        if batch_idx % self.every_n_batches == 0 and isinstance(outputs, dict):
            loss: torch.Tensor = outputs["loss"] * trainer.accumulate_grad_batches  # Lightning has divided it
            loss = trainer.strategy.reduce(loss, reduce_op="mean")
            total = len(trainer.train_dataloader.dataset)  # type: ignore[union-attr]
            seen = min(self._seen, total)  # the last batches of the processes may differ in size
            text = f"epoch {trainer.current_epoch + 1} · loss: {loss.item():.4f} [{seen:>5}/{total}]"
            pl_module.print(encodable(text, sys.stdout.encoding))
