"""The one way in which checkpoints are read: verified, as plain data, and with one clear line if that cannot be."""

import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_cnn.checkpoint.description import KEY, Description, flaw, later_version
from lightning_cnn.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

#: Bytes of a file that is still taken for a checkpoint: a thousand times those of the networks here.
_LARGEST = 2**32
#: Objects and characters in all of a checkpoint, and in its description.
_MOST, _MOST_DESCRIBED = 20_000_000, 1_000_000
#: What there is besides where training can go on.
_OF_TRAINING: dict[str, type] = {"loops": dict, "callbacks": dict, "optimizer_states": list, "lr_schedulers": list}
_LIGHTNING = re.compile(r"[2-9]\.\d{1,4}\.\d{1,4}((a|b|rc|\.dev|\.post)\d{1,9})?")


def read(path: Path) -> dict[str, Any]:
    """Return all that a checkpoint holds, without running anything of it; its `Description` is under `KEY`.

    It is a checkpoint of `fit`, or a safetensors file of `export`, which holds what is needed to use a model but not
    what is needed to go on training. Every byte is verified: what is returned is what was written.

    Returns:
        Plain types and tensors in main memory: at least `state_dict`, the description, `pytorch-lightning_version`,
        `epoch` and `global_step`.

    Raises:
        UserError: If the file is not a checkpoint of this project, or not as it was written, or written by a version to
            come.
    """
    data = _bytes(path)

    from lightning_cnn.checkpoint.plain import UnreadableError  # torch, and not before it is needed

    try:
        content = _content(path, data)
        _require_sound(content)
    except UnreadableError as error:
        raise UserError(f"{path} is no checkpoint, or damaged: {error}; {_way_out(path)}") from error
    return content


def read_description(path: Path) -> Description:
    """Return what the checkpoint says of itself, without running anything that it contains.

    Raises:
        UserError: If the file is not a checkpoint of this project.
    """
    description: Description = read(path)[KEY]
    return description


def _bytes(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path} is no file, but a folder, a device or a pipe; give a checkpoint file")
        if found.st_size > _LARGEST:
            raise UserError(f"{path} is no checkpoint: it has {found.st_size:,} bytes; give one that `fit` has written")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"checkpoint {path} cannot be read ({(error.strerror or str(error)).lower()})") from error


def _content(path: Path, data: bytes) -> dict[str, Any]:
    from lightning_cnn.checkpoint import archive
    from lightning_cnn.checkpoint import safetensors as shared
    from lightning_cnn.checkpoint.plain import UnreadableError, plain

    if not data:
        raise UnreadableError("it is empty")
    if archive.is_archive(data):
        content = archive.load(data)
    elif shared.is_shared(data):
        content = shared.load(data)
    else:
        raise UnreadableError("it is neither what torch writes nor safetensors")
    content = plain(content, _MOST)
    if not isinstance(content, dict) or not isinstance(content.get(KEY), dict):
        raise UserError(f"{path} is not a checkpoint of lightning-cnn; give one that its `fit` has written")
    plain(content[KEY], _MOST_DESCRIBED)
    if (version := later_version(content[KEY])) is not None:
        raise UserError(f"{path} was written by a later lightning-cnn ({version}); update it")
    return content


def _require_sound(content: dict[str, Any]) -> None:
    """Refuse content that lacks what all who read checkpoints rely on."""
    from torch import Tensor

    from lightning_cnn.checkpoint.plain import UnreadableError

    weights, settings = content.get("state_dict"), content.get("hyper_parameters", {})
    if not isinstance(weights, dict) or not _are(weights, str) or not _are(weights.values(), Tensor):
        raise UnreadableError("it has no weights")
    if not isinstance(settings, dict) or not _are(settings, str):
        raise UnreadableError("the settings of its model have no names")
    if not _LIGHTNING.fullmatch(str(content.get("pytorch-lightning_version"))):
        raise UnreadableError("it does not say which version of Lightning wrote it")
    for name in ("epoch", "global_step"):
        if type(count := content.get(name)) is not int or not 0 <= count < 2**62:
            raise UnreadableError(f"its {name} is no number")
    for name, kind in _OF_TRAINING.items():
        state = content.get(name, kind())
        if not isinstance(state, kind) or (kind is list and not _are(state, dict)):
            raise UnreadableError(f"its {name} are not what training leaves")
    if found := flaw(content[KEY]):
        raise UnreadableError(found)


def _are(values: Any, kind: type) -> bool:
    return all(isinstance(value, kind) for value in values)


def _way_out(path: Path) -> str:
    """What to do instead: go on from the checkpoint before the last, if it is there."""
    previous = path.with_name("previous.ckpt")
    if path.name == "last.ckpt" and previous.is_file():
        return f"the one before it is --ckpt_path {previous}"
    return "give one that `fit` has written"


def require_same_shapes(expected: Mapping[str, "Tensor"], found: Mapping[str, "Tensor"]) -> None:
    """Refuse weights that do not fit a model.

    Raises:
        UserError: If a weight is missing, left over or of another shape, or has whole or complex numbers where others
            are needed.
    """
    for name in sorted(expected.keys() | found.keys()):
        shapes = [tuple(weights[name].shape) if name in weights else "none" for weights in (expected, found)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"the checkpoint is of another architecture: the model has {shapes[0]} for {name}, the checkpoint "
                f"{shapes[1]}; leave --model out to take the checkpoint's own"
            )
        kinds = [(weights[name].is_floating_point(), weights[name].is_complex()) for weights in (expected, found)]
        if kinds[0] != kinds[1]:
            raise UserError(
                f"{name} is {_dtype(found[name])} in the checkpoint, but {_dtype(expected[name])} in the model; take "
                "another checkpoint"
            )


def _dtype(tensor: "Tensor") -> str:
    return str(tensor.dtype).removeprefix("torch.")
