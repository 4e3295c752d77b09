"""From a checkpoint to a program in a file, which is kept only if it agrees with the checkpoint."""

from dataclasses import asdict
from pathlib import Path

from lightning_cnn.data.batches import SequentialLoader
from lightning_cnn.errors import UserError
from lightning_cnn.export.agreement import Agreement, compare, computed_by
from lightning_cnn.export.card import model_card
from lightning_cnn.export.formats import Format, Onnx, TorchExport
from lightning_cnn.export.program import Program
from lightning_cnn.export.quantize import Calibration, Quantization, quantized
from lightning_cnn.export.writing import Source, Written
from lightning_cnn.run import Run
from lightning_cnn.training.images import EvaluationImages


def write_program(
    source: Source,
    kind: str,
    path: Path,
    name: str,
    images: EvaluationImages,
    max_accuracy_drop: float | None = None,
) -> Written:
    """Write a checkpoint as a program, load the file again, and compare it with the checkpoint.

    Args:
        source: The checkpoint.
        kind: The format, `onnx` or `torch_export`.
        path: Where to write.
        name: What the file will be called, for the card.
        images: What to compare on.
        max_accuracy_drop: For 8-bit integers, in ONNX: the percentage points of accuracy that they may cost.

    Raises:
        DisagreementError: If it does not agree, or as an `AccuracyError` if it is too inaccurate.
        ExportError: If the network cannot be written in this format.
        UserError: If the settings of the checkpoint are not plain values.
    """
    quantization = None
    program: Format = Onnx.of(source.classifier) if kind == "onnx" else TorchExport(source.classifier)
    metadata = {**source.metadata(), **source.facts(), "sample": images.is_sample}
    if max_accuracy_drop is not None:
        assert isinstance(program, Onnx)
        program, quantization = _quantized(program, source, path, images, max_accuracy_drop)
        metadata["quantization"] = asdict(quantization)
    try:
        program.write(path, metadata)
        agreement = _compared(program, source, path, images.evaluated(), images.title, images.part)
        if quantization is None:
            agreement.require_equal()
        program.write(path, {**metadata, "agreement": asdict(agreement)})
    except (TypeError, ValueError) as error:
        raise UserError(f"hyperparameters of its model are not plain values ({error})") from error
    card = model_card(metadata, kind, name, agreement, Run.of_checkpoint(source.path))
    return Written(card, agreement, quantization)


def _quantized(
    program: Onnx, source: Source, path: Path, images: EvaluationImages, max_accuracy_drop: float
) -> tuple[Onnx, Quantization]:
    """Return a program with 8-bit integers, and what they cost."""
    calibration = Calibration(images.validation())
    program = Onnx(quantized(program.model, calibration), program.num_threads)
    program.write(path, {})
    agreement = _compared(program, source, path, images.validation(), images.title, "val")
    quantization = Quantization(
        len(calibration.images), agreement.images, agreement.accuracy, agreement.checkpoint_accuracy
    )
    quantization.require_accurate(max_accuracy_drop)
    return program, quantization


def _compared(
    program: Format, source: Source, path: Path, batches: SequentialLoader, dataset: str, part: str
) -> Agreement:
    """Return how far the file agrees with the checkpoint, computed by torch in float32."""
    return compare(computed_by(Program(source.classifier)), program.load(path), batches, dataset, part)
