"""Checkpoints to share: weights and description as safetensors, a format that cannot hold code."""

import hashlib
import json
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from lightning_cnn.checkpoint.description import KEY
from lightning_cnn.checkpoint.plain import UnreadableError

SUFFIX = ".safetensors"
#: What is shared of a checkpoint besides its weights: nothing that only training needs.
_ABOUT = (KEY, "hyper_parameters", "pytorch-lightning_version", "epoch", "global_step")


def is_shared(data: bytes) -> bool:
    """Whether a file, by its first bytes, is of this format."""
    return data[8:9] == b"{"


def dump(content: dict[str, Any]) -> bytes:
    """Return the file that holds the weights of a checkpoint and what it says of itself.

    The description is JSON in the metadata, under `lightning_cnn`, with the SHA-256 of itself and of all weights. In it
    tuples become lists, and keys text.

    Args:
        content: What `checkpoint.read` returns.

    Raises:
        TypeError: If the settings of the model are more than JSON can hold, tensors for example.
    """
    weights = {name: tensor.contiguous().clone() for name, tensor in content["state_dict"].items()}
    about = json.loads(json.dumps({name: content[name] for name in _ABOUT if name in content}))
    about["sha256"] = _sha256(about, weights)
    return safetensors.torch.save(weights, {KEY: json.dumps(about)})


def load(data: bytes) -> dict[str, Any]:
    """Return what `dump` was given, as far as it is in the file; of files of others, the weights.

    Raises:
        UnreadableError: If it is not whole, or not as it was written.
    """
    try:
        weights = dict(sorted(safetensors.torch.load(data).items()))  # they come in another order each time
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        written = header.get("__metadata__", {}).get(KEY)
        about = {} if written is None else dict(json.loads(written))
    except Exception as error:  # torch raises whatever it has to say of tensors that safetensors lets pass
        raise UnreadableError("it is not as safetensors writes it") from error
    if written is not None and about.pop("sha256", None) != _sha256(about, weights):
        raise UnreadableError("it is not as it was written: its SHA-256 is another")
    return {**about, "state_dict": weights}


def _sha256(about: dict[str, Any], weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(json.dumps([name, str(tensor.dtype), tensor.shape]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
