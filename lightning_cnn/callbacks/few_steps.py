"""A hint for a run on few images, where the epochs that are enough for a large dataset are a handful of steps."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

#: Steps below which hardly any network learns; in 10, the averages of batch normalisation are far from the activations.
FEW = 100


class FewSteps(Callback):
    """Says so if a new run has fewer than 100 optimizer steps, unless the user has limited them."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the steps; that there are few is known before the first one."""
        # The share of 1.0 is all batches, the number 1 is one of them.
        is_limited = isinstance(trainer.limit_train_batches, int) or trainer.limit_train_batches < 1
        overfits: float = trainer.overfit_batches  # type: ignore[attr-defined]  # Lightning sets it from outside
        if is_limited or overfits > 0 or trainer.max_steps != -1 or trainer.global_step > 0:
            return
        steps = trainer.estimated_stepping_batches
        if steps >= FEW:
            return
        rank_zero_info(
            f"Only {steps:.0f} optimizer step{'s' * (steps != 1)} in the whole run: if the accuracy is low, "
            "raise --trainer.max_epochs or lower --data.batch_size"
        )
