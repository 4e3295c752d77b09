"""A hint for a run on few images: what is enough for a large dataset is a handful of optimizer steps for a small one."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

#: Steps below which hardly any network learns; in 10, the averages of batch normalisation are far from the activations.
FEW = 100


class FewSteps(Callback):
    """Says so if a new run has fewer than 100 optimizer steps, unless the user has limited them."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the steps; that there are few is known before the first one."""
        is_limited = trainer.max_steps != -1 or trainer.limit_train_batches != 1.0 or trainer.overfit_batches > 0
        if trainer.global_step > 0 or is_limited or trainer.estimated_stepping_batches >= FEW:
            return
        steps = int(trainer.estimated_stepping_batches)
        rank_zero_info(
            f"Only {steps} optimizer step{'s' * (steps != 1)} in the whole run: if the accuracy is low, "
            "raise --trainer.max_epochs or lower --data.batch_size"
        )
