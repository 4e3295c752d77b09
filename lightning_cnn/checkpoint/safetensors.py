"""Checkpoints as safetensors, a format that cannot hold code: weights and description, without the training state."""

import hashlib
import json
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from lightning_cnn.checkpoint.description import KEY
from lightning_cnn.checkpoint.plain import plain
from lightning_cnn.errors import UserError

SUFFIX = ".safetensors"
#: The entries of a checkpoint that are written into the metadata.
_METADATA = (KEY, "hyper_parameters", "pytorch-lightning_version", "epoch", "global_step")


def is_safetensors(data: bytes) -> bool:
    """Whether a file, by its first bytes, is of this format."""
    return data[8:9] == b"{"


def dump(content: dict[str, Any]) -> bytes:
    """Return a safetensors file with the weights and the description of a checkpoint.

    The description is JSON in the metadata, under `lightning_cnn`, with the SHA-256 of itself and of all weights. In
    JSON, tuples become lists, and keys become text.

    Args:
        content: What `checkpoint.read` returns.

    Raises:
        TypeError: If the settings of the model are not JSON, tensors for example.
    """
    weights = {name: tensor.contiguous().clone() for name, tensor in content["state_dict"].items()}
    metadata = json.loads(json.dumps({name: content[name] for name in _METADATA if name in content}))
    metadata["sha256"] = _sha256(metadata, weights)
    return safetensors.torch.save(weights, {KEY: json.dumps(metadata)})


def load(data: bytes) -> dict[str, Any]:
    """Return the content that `dump` wrote; of files of other programs, the `state_dict` only.

    Raises:
        UserError: If the file is damaged, or its SHA-256 does not match.
    """
    try:
        weights = dict(sorted(safetensors.torch.load(data).items()))  # their order changes from call to call
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        text = header.get("__metadata__", {}).get(KEY)
        metadata = {} if text is None else dict(json.loads(text))
    except Exception as error:  # safetensors, json and torch raise errors of many types
        raise UserError(f"it is truncated or damaged ({type(error).__name__})") from error
    if text is not None and metadata.pop("sha256", None) != _sha256(metadata, weights):
        raise UserError("its SHA-256 does not match its content")
    content: dict[str, Any] = plain({**metadata, "state_dict": weights})
    return content


def _sha256(metadata: dict[str, Any], weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(json.dumps([name, str(tensor.dtype), tensor.shape]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
