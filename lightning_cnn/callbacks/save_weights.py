"""The weights of the network alone, to be used without this project."""

from pathlib import Path, PureWindowsPath

import safetensors.torch
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_cnn.checkpoint.safetensors import SUFFIX
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.files import atomic_write


class SaveWeights(Callback):
    """Saves the state dict of the network in the run folder after training.

    These are the weights of the last epoch, without optimizer and preprocessing. Load them with
    `network.load_state_dict(torch.load(path, weights_only=True))`, or a safetensors file with
    `network.load_state_dict(safetensors.torch.load_file(path))`. To share all that `predict` needs, use
    `lightning-cnn export`.

    Args:
        filename: Name of the file in the run folder; with the suffix `.safetensors`, it is written in that format.

    Raises:
        ValueError: If `filename` is a path: it may come from a checkpoint, which must not write elsewhere.
    """

    def __init__(self, filename: str = "model.pth") -> None:
        # Windows has the path separators of all systems.
        if filename in ("", ".", "..") or PureWindowsPath(filename).name != filename or not filename.isprintable():
            raise ValueError(f"filename must be a name without folders, such as model.pth, got {filename!r}")
        self.filename = filename

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file."""
        assert isinstance(pl_module, ImageClassifier)
        if not trainer.is_global_zero or trainer.fast_dev_run or trainer.barebones:  # type: ignore[attr-defined]
            return
        path = Path(trainer.default_root_dir) / self.filename
        path.parent.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.cpu().contiguous() for name, tensor in pl_module.network.state_dict().items()}
        with atomic_write(path) as temporary:
            if path.suffix == SUFFIX:
                temporary.write_bytes(safetensors.torch.save(weights))
            else:
                torch.save(weights, temporary)
        print(f"Weights: {path}")
