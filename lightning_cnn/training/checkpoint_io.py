"""How checkpoints get to disk and back: whole or not at all, and nothing in them is run."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.files import atomic_write


class CheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, to the disk, and only then gives it its name.

    Lightning's own writes it into the folder for temporary files, which may be on another filesystem.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the file.

        Raises:
            OSError: If there is no room for it, or no permission; an earlier file of that name stays as it is.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # torch's own writer says of a full disk neither that it is full nor where
        torch.save(checkpoint, content)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return what the checkpoint holds, as tensors in main memory and plain types.

        Raises:
            UserError: If the file is damaged, or no checkpoint of this project.
        """
        return checkpoints.read(Path(path))
