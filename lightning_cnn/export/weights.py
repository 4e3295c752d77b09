"""The formats of weights alone, which need no package of the extra `export`."""

from pathlib import Path
from typing import Any

import torch

from lightning_cnn.checkpoint import safetensors as shared
from lightning_cnn.errors import UserError
from lightning_cnn.export.agreement import DisagreementError


def write_safetensors(content: dict[str, Any], path: Path) -> None:
    """Write weights and description of a checkpoint, and compare them when they are read again.

    Raises:
        DisagreementError: If a weight is another one.
        UserError: If the hyperparameters are not plain values.
    """
    try:
        path.write_bytes(shared.dump(content))
    except TypeError as error:
        raise UserError(f"hyperparameters of its model are not plain values ({error})") from error
    _require_equal(content["state_dict"], shared.load(path.read_bytes())["state_dict"])


def write_state_dict(content: dict[str, Any], path: Path) -> None:
    """Write the weights of the network alone, as `callbacks.SaveWeights` does, and compare them likewise.

    Raises:
        DisagreementError: If a weight is another one.
    """
    prefix = "network."
    weights = {n.removeprefix(prefix): w.contiguous() for n, w in content["state_dict"].items() if n.startswith(prefix)}
    torch.save(weights, path)
    _require_equal(weights, torch.load(path, weights_only=True))


def _require_equal(written: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> None:
    different = written.keys() ^ found.keys() or {n for n, w in written.items() if not torch.equal(w, found[n])}
    if different:
        raise DisagreementError(f"the weights {sorted(different)[:3]} are others when they are read again")
