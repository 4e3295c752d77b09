"""The weights alone, for whoever wants the network without this project."""

from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.files import replacing


class SaveWeights(Callback):
    """Saves the network's bare state dict into the run folder when training ends.

    These are the weights after the last epoch, without optimizer and preprocessing; load them with
    `network.load_state_dict(torch.load(path, weights_only=True))`.

    Args:
        filename: Name of the file in the run folder.
    """

    def __init__(self, filename: str = "model.pth") -> None:
        self.filename = filename

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file, whole or not at all."""
        assert isinstance(pl_module, ImageClassifier)
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        path = Path(trainer.default_root_dir) / self.filename
        weights = {name: tensor.cpu() for name, tensor in pl_module.network.state_dict().items()}
        with replacing(path) as temporary:
            torch.save(weights, temporary)
        print(f"Weights: {path}")
