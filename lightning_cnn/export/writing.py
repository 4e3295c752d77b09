"""From a checkpoint to an exported file, which is kept only if it agrees with the checkpoint."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.checkpoint import onnx
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.config.places import without_places
from lightning_cnn.errors import UserError
from lightning_cnn.export.agreement import Agreement, compare, computed_by
from lightning_cnn.export.formats import Onnx, Program, TorchExport, write_safetensors, write_state_dict
from lightning_cnn.export.program import Program as Network
from lightning_cnn.files import sha256
from lightning_cnn.predict.loading import load_classifier
from lightning_cnn.training.images import EvaluationImages

#: The suffix of each format; the first is the default.
SUFFIXES = {"safetensors": ".safetensors", "onnx": onnx.SUFFIX, "torch_export": ".pt2", "state_dict": ".pth"}


@dataclass(frozen=True)
class Source:
    """A checkpoint that is exported.

    Attributes:
        path: The file.
        content: What `checkpoint.read` returns for it.
        classifier: The classifier, in float32 and in eval mode.
        sha256: SHA-256 of the file.
    """

    path: Path
    content: dict[str, Any]
    classifier: ImageClassifier
    sha256: str

    @classmethod
    def read(cls, path: Path, model: str | None) -> "Source":
        """Read a checkpoint.

        Args:
            path: The file.
            model: Class path of a network or classifier of the user's own; None for what the checkpoint names.

        Raises:
            UserError: If it cannot be used, or is itself an exported program.
        """
        content = checkpoints.read(path)
        if not content["state_dict"]:
            raise UserError(f"{path} is exported already; give the checkpoint that it was made from")
        return cls(path, content, load_classifier(content, model), sha256(path))

    def images(self, flags: Sequence[str]) -> EvaluationImages:
        """Return the images that the checkpoint is compared on; `flags` are those of `test` for its data."""
        network, own = self.classifier.network_config, type(self.classifier)
        if own is not ImageClassifier:
            named = ["--model", f"{own.__module__}.{own.__qualname__}"]
        else:
            named = ["--model.network", str(network["class_path"])] if network else []
        return EvaluationImages(self.path, self.content, [*named, *flags])

    def metadata(self) -> dict[str, Any]:
        """Return what a program says about itself: the description of the checkpoint, without the user's folders."""
        description = dict(self.content[checkpoints.KEY])
        description.pop("threads", None)
        config = without_places(description["config"], is_resumed=False)
        assert isinstance(config, dict)
        trainer = config.get("trainer")
        if isinstance(trainer, dict):
            config["trainer"] = {name: value for name, value in trainer.items() if name != "default_root_dir"}
        names = description["class_names"] or [str(label) for label in range(self.classifier.num_classes)]
        return {
            **onnx.as_metadata({**self.content, checkpoints.KEY: description}),
            "config": config,
            "class_names": names,
            "image_shape": [*self.classifier.image_shape],
            "parameters": sum(parameter.numel() for parameter in self.classifier.network.parameters()),
            "checkpoint_sha256": self.sha256,
        }


def write(source: Source, kind: str, path: Path, images: EvaluationImages | None = None) -> Agreement | None:
    """Write a checkpoint in a format, load the file again, and compare it with the checkpoint.

    Args:
        source: The checkpoint.
        kind: The format, one of `SUFFIXES`.
        path: Where to write.
        images: What to compare on, for the formats with a program; the weights of the others are compared.

    Returns:
        How far the program agrees; None for weights, which are equal to the bit.

    Raises:
        DisagreementError: If it does not agree.
        ExportError: If the network cannot be written in this format.
        UserError: If the settings of the checkpoint are not plain values.
    """
    if kind == "safetensors":
        write_safetensors(source.content, path)
        return None
    if kind == "state_dict":
        write_state_dict(source.content, path)
        return None
    assert images is not None
    program = Onnx.of(source.classifier) if kind == "onnx" else TorchExport(source.classifier)
    return write_program(program, source, path, images, {})


def write_program(
    program: Program, source: Source, path: Path, images: EvaluationImages, more: dict[str, Any], exact: bool = True
) -> Agreement:
    """Write a program, compare the file with the checkpoint, and write it again with the result.

    Args:
        program: The program.
        source: The checkpoint.
        path: Where to write.
        images: What to compare on.
        more: Metadata besides those of the source.
        exact: Whether a disagreement is refused.

    Raises:
        DisagreementError: If it does not agree, and `exact` is true.
        UserError: If the settings of the checkpoint are not plain values.
    """
    metadata = {**source.metadata(), **more}
    try:
        program.write(path, metadata)
        network = Network(source.classifier)
        agreement = compare(
            computed_by(lambda pixels: network(pixels)[1]),
            program.load(path),
            images.evaluated(),
            images.title,
            images.part,
        )
        if exact:
            agreement.require_equal()
        program.write(path, {**metadata, "sample": images.is_sample, "agreement": asdict(agreement)})
    except (TypeError, ValueError) as error:
        raise UserError(f"hyperparameters of its model are not plain values ({error})") from error
    return agreement
