"""Checkpoint I/O: files are written atomically and loaded without running code."""

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.checkpoint.plain import require_plain
from lightning_cnn.errors import ForeignError
from lightning_cnn.files import atomic_write


class CheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file in its folder and renames it.

    Lightning's own uses the system's folder for temporary files, which may be on another filesystem.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the file; to an address such as `s3://…`, as Lightning does.

        Raises:
            OSError: If there is no space or no permission; an existing file is unchanged.
            UserError: If a classifier's checkpoint could not be read again, because of the state of a callback.
        """
        if checkpoints.KEY in checkpoint:
            require_plain(checkpoint, "the checkpoint")
        if _is_remote(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # torch's writer does not report a full disk as such
        torch.save(checkpoint, content)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the content of a checkpoint; of a classifier of this package, as CPU tensors and plain types.

        Checkpoints of other modules are loaded as Lightning does, but with `weights_only=True` unless it is given.

        Raises:
            UserError: If the file is damaged.
        """
        if not _is_remote(path) and Path(path).exists():  # otherwise, Lightning's error is what users of Python expect
            with suppress(ForeignError):
                return checkpoints.read(Path(path))
        return super().load_checkpoint(path, map_location, weights_only is not False)


def _is_remote(path: str | Path) -> bool:
    """Whether a path is an address for fsspec, for example `s3://…`."""
    return "://" in str(path)
