"""Read untrusted checkpoints as data: verified and valid plain types and tensors, or one line that says why not.

All commands read checkpoints through here. It imports torch only when a file is there to be read.
"""

import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_cnn.checkpoint import onnx
from lightning_cnn.checkpoint.description import (
    FORMAT,
    KEY,
    RESUME_KEY,
    Description,
    are_class_names,
    are_names,
    are_statistics,
)
from lightning_cnn.errors import ForeignError, UserError, reason

if TYPE_CHECKING:
    from torch import Tensor

#: Bytes of the largest file that is read.
_MAX_BYTES = 2**32
_LIGHTNING = re.compile(r"[2-9]\.\d{1,4}\.\d{1,4}((a|b|rc|\.dev|\.post)\d{1,9})?")


def read(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint without running any code in it; its `Description` is under `KEY`.

    Args:
        path: A checkpoint of `fit`, or a safetensors or ONNX file of `export`; these have no state of training, and of
            an ONNX file the weights stay in the file. Every byte is verified: what is returned is what was written.

    Returns:
        Plain types and tensors in main memory: at least `state_dict`, the description, `pytorch-lightning_version`,
        `epoch` and `global_step`.

    Raises:
        UserError: If the file is damaged, or was written by a newer version; as a `ForeignError`, if it is not a
            checkpoint of this project.
    """
    data = read_bytes(path)
    with refusing(path):
        content = _parse(data)
        if not isinstance(content, dict) or not isinstance(content.get(KEY), dict):
            if isinstance(content, dict) and content and _are_weights(content):
                raise ForeignError("it has weights alone, and nothing says of which network")
            raise ForeignError("it was not written by lightning-cnn")
        require_valid(content)
    return content


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Let a `UserError` of the block say which file cannot be read, and what to do instead."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{path} cannot be read as a checkpoint: {error}; {_way_out(path)}") from error


def require_valid(content: dict[str, Any]) -> None:
    """Refuse the content of a checkpoint with which code that relies on it would fail.

    Raises:
        UserError: If an entry is missing or invalid, or a newer version wrote it.
    """
    if _is_count(written := content[KEY].get("format")) and written > FORMAT:
        raise UserError("it needs a newer lightning-cnn (upgrade to read it)")
    if invalid := [name for name, is_valid in _checks(content).items() if not is_valid]:
        raise UserError(f"its {' and '.join(invalid)} {'is' if len(invalid) == 1 else 'are'} missing or invalid")
    _require_sound(content)


def read_description(path: Path) -> Description:
    """Return what the checkpoint says about itself, without running any code in it.

    Raises:
        UserError: As in `read`.
    """
    description: Description = read(path)[KEY]
    return description


def read_progress(path: Path) -> tuple[int, int]:
    """Return the epoch and the step of a checkpoint, in a fraction of the time of `read`: Lightning stores them first.

    Raises:
        UserError: As in `read`.
    """
    from lightning_cnn.checkpoint import archive

    with suppress(UserError):  # `read` says what is wrong
        match archive.first_entries(path):
            case ["epoch", int(epoch), "global_step", int(step), *_]:
                return epoch, step
    content = read(path)
    return content["epoch"], content["global_step"]


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a checkpoint.

    Raises:
        UserError: If it is not a file, too large, or cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path} is not a regular file; give a checkpoint that `fit` wrote")
        with path.open("rb") as file:
            limit = onnx.MAX_BYTES if onnx.is_onnx(file.read(9)) else _MAX_BYTES
        if status.st_size > limit:
            raise UserError(
                f"{path} is too large for a checkpoint ({status.st_size:,} bytes); give one that `fit` wrote"
            )
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"checkpoint {path} cannot be read ({reason(error)})") from error


def _parse(data: bytes) -> Any:
    if onnx.is_onnx(data):
        return None if (metadata := onnx.load(data)) is None else onnx.as_content(metadata)
    from lightning_cnn.checkpoint import archive, safetensors  # import torch

    if archive.is_archive(data):
        return archive.load(data)
    if safetensors.is_safetensors(data):
        return safetensors.load(data)
    if data:
        raise ForeignError("it is neither an archive of `torch.save` nor a safetensors or ONNX file")
    raise UserError("it is empty")


def _checks(content: dict[str, Any]) -> dict[str, bool]:
    """Return, for each entry of a checkpoint that code relies on, whether it is valid."""
    description = content[KEY]
    config = description.get("config")
    class_names = description.get("class_names", 0)
    preprocessing, metrics, versions = (description.get(name) for name in ("preprocessing", "metrics", "versions"))
    threads, loops, callbacks = description.get("threads", 1), content.get("loops", {}), content.get("callbacks", {})
    parts = [config.get(section) for section in ("model", "data", "trainer")] if isinstance(config, dict) else [0]
    parts += [part.get("init_args") for part in parts if isinstance(part, dict)]
    resumed = loops.get(RESUME_KEY, {}) if isinstance(loops, dict) else {}
    return {
        "state_dict": _are_weights(content.get("state_dict")),
        "hyper_parameters": _is_dict(content.get("hyper_parameters", {}), object),
        "pytorch-lightning_version": bool(_LIGHTNING.fullmatch(str(content.get("pytorch-lightning_version")))),
        **{name: _is_count(content.get(name)) for name in ("epoch", "global_step")},
        "loops": isinstance(loops, dict),
        "callbacks": isinstance(callbacks, dict) and not any(map(_leads_up, _texts(callbacks))),
        f"loops.{RESUME_KEY}": isinstance(resumed, dict) and isinstance(resumed.get("ranks", []), list),
        **{name: _is_list(content.get(name, []), dict) for name in ("optimizer_states", "lr_schedulers")},
        f"{KEY}.format": _is_count(description.get("format")),
        f"{KEY}.config": all(isinstance(part, dict | None) for part in parts),
        f"{KEY}.class_names": class_names is None or (_is_list(class_names, str) and are_class_names(class_names)),
        f"{KEY}.framing": _is_framing(description.get("framing", 0)),
        f"{KEY}.metrics": _is_dict(metrics, int | float)
        and are_names(metrics)
        and all(map(_is_number, metrics.values())),
        f"{KEY}.preprocessing": _is_dict(preprocessing, int | float | list)
        and preprocessing.keys() == {"mean", "std"}
        and all(_is_list(value, int | float) for value in preprocessing.values() if isinstance(value, list))
        and are_statistics(*(v if isinstance(v := preprocessing[name], list) else [v] for name in ("mean", "std"))),
        f"{KEY}.threads": _is_count(threads) and threads > 0,
        f"{KEY}.versions": _is_dict(versions, str) and are_names([*versions, *versions.values()]),
    }


def _require_sound(content: dict[str, Any]) -> None:
    """Refuse weights with which nothing can be predicted, and names that are not those of the outputs.

    Raises:
        UserError: If there are some.
    """
    weights, names = content["state_dict"], content[KEY].get("class_names")
    mean, std = (_values(weights.get(name)) for name in ("mean", "std"))
    if not are_statistics(mean, std):
        raise UserError(
            f"it normalises images with mean {mean[:3]} and std {std[:3]}, with which nothing can be predicted"
        )
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise UserError(f"its weights are NaN or infinite ({name!a:.80}), perhaps because training has diverged")
    classes = content.get("hyper_parameters", {}).get("num_classes")
    if names is not None and type(classes) is int and len(names) != classes:
        raise UserError(f"it has {len(names):,} class names, but its model has {classes:,} classes")


def _are_weights(value: object) -> bool:
    if value == {}:  # of an ONNX file, for which torch is not imported
        return True
    from torch import Tensor

    return _is_dict(value, Tensor)


def _values(statistic: "Tensor | None") -> list[float]:
    """Return the mean or the standard deviation of the pixels, for each channel; 1, which is valid, if it has none."""
    values: list[float] = [1.0] if statistic is None else statistic.flatten()[:100].double().tolist()
    return values


def _is_number(value: float) -> bool:
    return isinstance(value, float) or abs(value) < 2**62


def _is_framing(value: object) -> bool:
    """Whether a framing has but a few plain arguments; which ones, and their ranges, `predict` knows."""
    if not isinstance(value, dict):
        return value is None
    sides = [side for item in value.values() for side in (item if isinstance(item, list | tuple) else [item])]
    is_short = 0 < len(value) <= len(sides) <= 16 and _is_list([*value], str) and are_names(value)
    return is_short and all(
        isinstance(side, int | str) and (isinstance(side, str) or 0 <= side <= 10_000) for side in sides
    )


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    items = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    if isinstance(items, list | tuple | set):
        for item in items:
            yield from _texts(item)


def _leads_up(text: str) -> bool:
    """Whether a path leaves the folder that it begins with: Lightning deletes files that a callback has saved."""
    return ".." in Path(text[:5000]).parts


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _is_list(value: object, kind: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _is_dict(value: object, kind: Any) -> bool:
    return isinstance(value, dict) and _is_list([*value], str) and _is_list([*value.values()], kind)


def _way_out(path: Path) -> str:
    """Return what to do instead: use the checkpoint before the last, if it is there."""
    previous = path.with_name("previous.ckpt")
    if path.name == "last.ckpt" and previous.is_file():
        return f"the one before it is --ckpt_path {previous}"
    return "give one that `fit` wrote"


def require_same_shapes(expected: Mapping[str, "Tensor"], found: Mapping[str, "Tensor"]) -> None:
    """Refuse weights that do not fit a model.

    Raises:
        UserError: If a weight is missing, left over, of another shape, or integer or complex instead of floating-point.
    """
    for name in sorted(expected.keys() | found.keys()):
        in_model, in_checkpoint = (_shape(weights.get(name)) for weights in (expected, found))
        if in_model != in_checkpoint:
            raise UserError(
                f"the checkpoint is of another architecture: the model has {in_model} for {name}, the checkpoint "
                f"{in_checkpoint}; leave --model out to take the checkpoint's own"
            )


def _shape(weight: "Tensor | None") -> str:
    if weight is None:
        return "none"
    kind = "" if weight.is_floating_point() else " complex" if weight.is_complex() else " integer"
    return f"{tuple(weight.shape)}{kind}"
