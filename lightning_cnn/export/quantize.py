"""ONNX files with 8-bit integers: a quarter of the size, calibrated on validation images, and refused if inaccurate."""

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from lightning_cnn.checkpoint.onnx import INPUT
from lightning_cnn.data.batches import SequentialLoader
from lightning_cnn.errors import UserError
from lightning_cnn.export.onnx import serialized

#: Images that the ranges of the activations are measured on, and how many at once.
_CALIBRATION, _BATCH = 1024, 64
#: The operators that compute with integers; all others, the softmax among them, stay as they are.
_OPERATORS = ["Conv", "Gemm", "MatMul"]


class AccuracyError(UserError):
    """A quantized file is less accurate than it may be; the command itself was right."""

    exit_status = 1


@dataclass(frozen=True)
class Quantization:
    """The accuracy before and after quantization.

    Attributes:
        calibration_images: Number of validation images that it was calibrated on.
        validation_images: Number of all validation images.
        validation_accuracy: Share of them that the quantized file classifies correctly.
        checkpoint_validation_accuracy: The same of the checkpoint, in float32.
    """

    calibration_images: int
    validation_images: int
    validation_accuracy: float
    checkpoint_validation_accuracy: float

    def __str__(self) -> str:
        return (
            f"validation accuracy {100 * self.validation_accuracy:.2f} %, that of the checkpoint "
            f"{100 * self.checkpoint_validation_accuracy:.2f} % ({self.validation_images:,} images)"
        )

    def require_accurate(self, max_drop: float) -> None:
        """Refuse a file that is less accurate than the checkpoint by more than so many percentage points.

        The validation images decide: test images must not choose what is kept.

        Raises:
            AccuracyError: If it is.
        """
        drop = 100 * (self.checkpoint_validation_accuracy - self.validation_accuracy)
        if drop > max_drop:
            raise AccuracyError(
                f"quantization costs {drop:.2f} percentage points of accuracy, more than --max_accuracy_drop "
                f"{max_drop:g}: {self}; the file is not kept. Leave --quantize out, or allow more"
            )


class Calibration(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Images to calibrate with, spread evenly over a loader: the files of a folder are in the order of their classes.

    Attributes:
        images: uint8 `(N, C, H, W)`.
    """

    def __init__(self, loader: SequentialLoader) -> None:
        number = len(loader.dataset)
        rows = torch.arange(0, number, max(1, number // _CALIBRATION))[:_CALIBRATION]
        self.images: NDArray[np.uint8] = loader.dataset.select(rows)[0].cpu().numpy()
        self._batches = self._batched()

    def _batched(self) -> Iterator[dict[str, NDArray[np.uint8]]]:
        for start in range(0, len(self.images), _BATCH):
            yield {INPUT: self.images[start : start + _BATCH]}

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next batch as the input of the network; None after the last."""
        return next(self._batches, None)


def quantized(model: bytes, images: Calibration) -> bytes:
    """Return an ONNX file whose convolutions and products compute with 8-bit integers, per channel.

    Args:
        model: The file without metadata, from `onnx.to_onnx`.
        images: What the ranges of the activations are measured on.
    """
    with tempfile.TemporaryDirectory(prefix="lightning_cnn.") as folder:
        source, prepared, target = (Path(folder) / f"{name}.onnx" for name in ("source", "prepared", "target"))
        source.write_bytes(model)
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)  # advice about steps that are done here
        try:
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                target,
                images,
                quant_format=QuantFormat.QDQ,  # with ONNX's own operators only
                op_types_to_quantize=_OPERATORS,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
        finally:
            logging.disable(before)
        return serialized(onnx.load(target))
