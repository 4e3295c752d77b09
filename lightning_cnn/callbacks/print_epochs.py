"""Progress as one plain line an epoch, for logs and pipes, where a bar would only leave litter."""

import time

from lightning.pytorch import Callback, LightningModule, Trainer


class PrintEpochs(Callback):
    """Prints what an epoch took and came to, for example `epoch 1/5 · 8.4 s · val/loss 0.3512 · val/acc 0.8740`."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line; the epoch's validation is over by now."""
        seconds = time.perf_counter() - self._started
        metrics = [
            f"{name} {trainer.callback_metrics[name]:.4f}"
            for name in ("val/loss", "val/acc")
            if name in trainer.callback_metrics
        ]
        last = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        pl_module.print(" · ".join([f"epoch {trainer.current_epoch + 1}{last}", f"{seconds:.1f} s", *metrics]))
