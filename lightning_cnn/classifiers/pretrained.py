"""Weights that a training starts from: those of a network like this one, trained before."""

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.errors import UserError
from lightning_cnn.run import DEFAULT_ROOT, find_runs, resolve_checkpoint

_PREFIX = "network."


def load_pretrained(network: nn.Module, reference: str) -> None:
    """Copy weights into a network; those of another shape, such as of a last layer for other classes, are left out.

    Args:
        network: The network; on the meta device, nothing is done.
        reference: A checkpoint or an exported file, a run folder (for its best checkpoint), `best`, `last` or
            `previous` of the newest run in `logs`, or weights of this package, such as `mnist/tiny`.

    Raises:
        UserError: If there is no such file, or it is of another architecture.
    """
    expected = network.state_dict()
    if any(weight.is_meta for weight in expected.values()):
        return
    path = resolve_checkpoint(reference, find_runs(DEFAULT_ROOT), folder_means="best")
    stored = checkpoints.read(path)["state_dict"]
    found = {name.removeprefix(_PREFIX): w for name, w in stored.items() if name.startswith(_PREFIX)}
    fitting = {name: w for name, w in found.items() if name in expected and w.shape == expected[name].shape}
    if found.keys() != expected.keys() or not any(name.endswith("weight") for name in fitting):
        raise UserError(
            f"--model.weights {reference}: {path} is of another architecture than this network; give weights of the "
            "same one, or leave it out"
        )
    with torch.no_grad():
        network.load_state_dict({**expected, **fitting})
    others = sorted(expected.keys() - fitting.keys())
    note = f"; {', '.join(others)} start anew, because they have another shape" if others else ""
    rank_zero_info(f"Starts from the weights in {path}{note}")
