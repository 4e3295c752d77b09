"""The network of an ONNX file, computed by ONNX Runtime within limits of memory and time; torch is not needed."""

import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from lightning_cnn.checkpoint.onnx import INPUT, OUTPUTS
from lightning_cnn.errors import UserError, reason

#: Bytes that all networks of a process may take, with their weights.
_MEMORY = 2**30
#: Pixels of all channels that are computed at once, so that most networks stay far below.
_VALUES = 2**20
#: Seconds after which the first image is given up; a ResNet-152 takes half a second.
_SECONDS = 5.0
#: The longest side of an image, as in `data.resize`, and the most classes.
_MAX_SIDE, _MAX_CLASSES = 4096, 1_000_000


class Session:
    """The network of an ONNX file that has been checked, see `onnx.load`.

    Args:
        model: The content of the file.
        path: The file, for messages.
        num_threads: Threads of an operator, at least 1.

    Attributes:
        image_shape: Channels, height and width of the images.
        num_classes: Number of classes.

    Raises:
        UserError: If the file is not a valid network, does not map uint8 images `(B, C, H, W)` to logits and
            probabilities `(B, num_classes)`, or needs too much memory or time for an image.
    """

    def __init__(self, model: bytes, path: Path, num_threads: int = 1) -> None:
        self._path = path
        _limit_memory()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors are raised as well
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as torch's threads, see `threads`
        # Otherwise the first bytes could make it a file of another format, which has not been checked.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            self._session = onnxruntime.InferenceSession(
                model,
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=["ConstantFolding"],  # it computes without the limit, when the file is opened
            )
        except Exception as error:  # of many types, which have no common base
            raise UserError(f"{path} is not a valid ONNX file: {_in_one_line(error)}; export it again") from error
        self.image_shape = self._image_shape()
        self.num_classes = self._num_classes()

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits and probabilities, each `(N, num_classes)`, for images `(N, C, H, W)`; N may be 0."""
        step = max(1, _VALUES // images[0].size) if len(images) else 1
        batches = [self._run(images[start : start + step]) for start in range(0, len(images), step)]
        if not batches:
            nothing = np.zeros((0, self.num_classes), np.float32)
            return nothing, nothing
        logits, probabilities = zip(*batches, strict=True)
        return np.concatenate(logits), np.concatenate(probabilities)

    def _run(self, images: NDArray[np.uint8], options: Any = None) -> list[NDArray[np.float32]]:
        try:
            found: list[NDArray[np.float32]] = self._session.run(list(OUTPUTS), {INPUT: images}, options)
        except Exception as error:  # as above
            raise self._unusable(_in_one_line(error)) from error
        return found

    def _image_shape(self) -> tuple[int, int, int]:
        found = [(item.name, item.type, item.shape) for item in self._session.get_inputs()]
        match found:
            case [(name, "tensor(uint8)", [None | str(), (1 | 3) as channels, int(height), int(width)])] if (
                name == INPUT and 1 <= min(height, width) <= max(height, width) <= _MAX_SIDE
            ):
                return channels, height, width
        raise self._unusable(f"its input must be uint8 {INPUT} (batch, 1 or 3, height, width), got {found!r:.200}")

    def _num_classes(self) -> int:
        """Return the number of classes, of a black image: what a file says of its outputs need not be so."""
        outputs = [(item.name, item.type) for item in self._session.get_outputs()]
        if outputs != [(name, "tensor(float)") for name in OUTPUTS]:
            raise self._unusable(f"its outputs must be float {' and '.join(OUTPUTS)}, got {outputs!r:.200}")
        options = onnxruntime.RunOptions()
        options.log_severity_level = 4
        timer = threading.Timer(_SECONDS, lambda: setattr(options, "terminate", True))
        timer.start()
        try:
            logits, probabilities = self._run(np.zeros((1, *self.image_shape), np.uint8), options)
        except UserError:
            if options.terminate:
                raise self._unusable(f"it takes more than {_SECONDS:g} s for one image") from None
            raise
        finally:
            timer.cancel()
        num_classes = probabilities.shape[-1] if probabilities.ndim else 0
        if not logits.shape == probabilities.shape == (1, num_classes) or not 2 <= num_classes <= _MAX_CLASSES:
            raise self._unusable(
                f"its outputs must be (1, classes) for one image, got {logits.shape} and {probabilities.shape}"
            )
        if not (np.isfinite(logits).all() and abs(probabilities.sum() - 1) < 1e-3):
            raise self._unusable("it returns no probabilities for a black image")
        return int(num_classes)

    def _unusable(self, why: str) -> UserError:
        return UserError(f"{self._path} cannot be used: {why}; give a file that `export` wrote")


@cache
def _limit_memory() -> None:
    """Let all networks of this process take their memory from one place that has a limit."""
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    # It grows by what is needed, where the default doubles it.
    arena = onnxruntime.OrtArenaCfg({"max_mem": _MEMORY, "arena_extend_strategy": 1})
    onnxruntime.create_and_register_allocator(memory, arena)


def _in_one_line(error: Exception) -> str:
    text = " ".join(reason(error).split())
    if "Available memory" in text:
        return f"it needs more than {_MEMORY:,} bytes of memory"
    return text[-300:]
