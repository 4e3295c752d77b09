"""A checkpoint that is exported, and its weights in a file of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_cnn import checkpoint as checkpoints
from lightning_cnn.checkpoint import onnx
from lightning_cnn.classifiers import ImageClassifier
from lightning_cnn.config.loading import load_classifier
from lightning_cnn.config.places import without_places
from lightning_cnn.errors import UserError
from lightning_cnn.export.agreement import Agreement
from lightning_cnn.export.card import model_card
from lightning_cnn.export.weights import write_safetensors, write_state_dict
from lightning_cnn.files import sha256
from lightning_cnn.run import Run
from lightning_cnn.training.images import EvaluationImages

if TYPE_CHECKING:
    from lightning_cnn.export.quantize import Quantization


@dataclass(frozen=True)
class Source:
    """A checkpoint that is exported.

    Attributes:
        path: The file.
        content: What `checkpoint.read` returns for it.
        sha256: SHA-256 of the file.
        model: Class path of a network or classifier of the user's own; None for what the checkpoint names.
    """

    path: Path
    content: dict[str, Any]
    sha256: str
    model: str | None

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
        return cls(path, content, sha256(path), model)

    @cached_property
    def classifier(self) -> ImageClassifier:
        """The classifier, in float32 and in eval mode; for the weights alone it is not built.

        Raises:
            UserError: If it cannot be built.
        """
        return load_classifier(self.content, self.model)

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
        config = without_places(description["config"], is_resumed=True)  # with its batch sizes
        assert isinstance(config, dict)
        trainer = config.get("trainer")
        if isinstance(trainer, dict):
            config["trainer"] = {name: value for name, value in trainer.items() if name != "default_root_dir"}
        return {
            **onnx.as_metadata({**self.content, checkpoints.KEY: description}),
            "config": config,
            "checkpoint_sha256": self.sha256,
        }

    def facts(self) -> dict[str, Any]:
        """Return what the classifier itself is: class names, shape of the images, number of parameters."""
        names = self.content[checkpoints.KEY]["class_names"]
        return {
            "class_names": names or [str(label) for label in range(self.classifier.num_classes)],
            "image_shape": [*self.classifier.image_shape],
            "parameters": sum(parameter.numel() for parameter in self.classifier.network.parameters()),
        }

    def recorded_facts(self) -> dict[str, Any]:
        """Return the same, as far as the checkpoint says so."""
        settings, weights = self.content.get("hyper_parameters", {}), self.content["state_dict"]
        size, channels = settings.get("image_size"), settings.get("in_channels")
        sides = [size, size] if isinstance(size, int) else size
        is_shape = isinstance(sides, list | tuple) and [*map(type, (*sides, channels))] == [int] * 3
        return {
            "class_names": self.content[checkpoints.KEY]["class_names"] or [],
            "image_shape": [channels, *sides] if is_shape else None,
            "parameters": sum(weights[name].numel() for name in weights if _is_parameter(name)),
        }


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        card: The model card, in Markdown.
        agreement: How far the program agrees with the checkpoint; None for weights, which are equal to the bit.
        quantization: What quantization has cost; None without it.
    """

    card: str
    agreement: Agreement | None = None
    quantization: "Quantization | None" = None


def _is_parameter(name: str) -> bool:
    """Whether a weight is a parameter of the network, by its name, and no statistic of batch normalisation."""
    return name.startswith("network.") and not name.endswith((".running_mean", ".running_var", ".num_batches_tracked"))


def write_weights(source: Source, kind: str, path: Path, name: str) -> Written:
    """Write the weights of a checkpoint, and compare them when they are read again.

    Args:
        source: The checkpoint.
        kind: The format, `safetensors` or `state_dict`.
        path: Where to write.
        name: What the file will be called, for the card.

    Raises:
        DisagreementError: If a weight is another one.
        UserError: If the settings of the checkpoint are not plain values.
    """
    metadata = {**source.metadata(), **source.recorded_facts()}
    (write_safetensors if kind == "safetensors" else write_state_dict)(source.content, path)
    return Written(model_card(metadata, kind, name, None, Run.of_checkpoint(source.path)))
