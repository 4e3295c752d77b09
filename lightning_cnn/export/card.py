"""The model card: a page in Markdown beside an exported file, from the figures of its own run."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lightning_cnn import __version__
from lightning_cnn.checkpoint.description import init_args
from lightning_cnn.export.agreement import Agreement
from lightning_cnn.run import Run
from lightning_cnn.text import printable

#: Class names that a card lists.
_MAX_CLASSES = 200
#: The settings of the training that a card has, by the names that lead to them.
_SETTINGS = (
    *("model.optimizer", "model.scheduler", "model.loss", "model.label_smoothing", "model.class_weights"),
    *("data.batch_size", "data.global_batch_size", "data.val_size", "data.augment"),
    *("trainer.max_epochs", "trainer.precision", "seed_everything"),
)
_RUNTIMES = {"onnx": "ONNX Runtime", "torch_export": "torch.export"}
_USAGE = {
    "onnx": """\
```python
import json

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{file}")
metadata = json.loads(session.get_modelmeta().custom_metadata_map["lightning_cnn"])
images = np.zeros((1, {shape}), np.uint8)  # yours
logits, probabilities = session.run(None, {{"images": images}})
print(metadata["class_names"][probabilities[0].argmax()])
```

or `lightning-cnn predict {file} IMAGE`, which also frames images of any size like those of the training.
""",
    "torch_export": """\
```python
import torch

program = torch.export.load("{file}").module()  # from people that you trust
logits, probabilities = program(torch.zeros(1, {shape}, dtype=torch.uint8))
```
""",
    "safetensors": """\
`lightning-cnn predict {file} IMAGE`; the weights alone are read by `safetensors.torch.load_file("{file}")`.
""",
    "state_dict": """\
```python
network.load_state_dict(torch.load("{file}", weights_only=True))
```
""",
}


def model_card(metadata: Mapping[str, Any], kind: str, file: str, agreement: Agreement | None, run: Run) -> str:
    """Return the card of an exported file.

    Args:
        metadata: What the file says about itself, as `Source.metadata` returns it.
        kind: Its format.
        file: Its name.
        agreement: How far it agrees with its checkpoint; None if it has the weights alone.
        run: The run of the checkpoint, whose test is shown if it was one of this checkpoint.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=False,  # it is not HTML; `text` escapes what comes from elsewhere
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(text=as_text, percent=_percent)
    channels, height, width = metadata["image_shape"] or ("C", "H", "W")  # where it was not recorded
    test = run.read_test_metrics() or {}
    is_tested = test.get("checkpoint_sha256") == metadata["checkpoint_sha256"]
    tested = test if is_tested and isinstance(test.get("data"), dict) else {}
    dataset = agreement.dataset if agreement else str(tested.get("data", {}).get("dataset") or _data_name(metadata))
    name = printable(file).replace("`", "'").replace('"', "'")
    shape = f"{channels}, {height}, {width}"
    values = {
        **{key: metadata[key] for key in ("class_names", "parameters", "checkpoint_sha256", "preprocessing")},
        "network": _network_name(metadata),
        "dataset": dataset,
        "version": __version__,
        "results": [*_results(metadata, agreement, tested)],
        "quantization": metadata.get("quantization"),
        "runtime": _RUNTIMES.get(kind),
        "is_sample": bool(metadata.get("sample") or tested.get("data", {}).get("sample")),
        "max_classes": _MAX_CLASSES,
        "input_text": f"Images, {'float32' if kind == 'state_dict' else 'uint8'} `(batch, {shape})`.",
        "framing_text": _framing(metadata),
        "settings": [*_settings(metadata["config"])],
        "versions": metadata["versions"],
        "usage": _USAGE[kind].format(file=name, shape=shape),
    }
    return environment.get_template("card.md").render(
        values, kind=kind, file=name, agreement=agreement, channels=channels, height=height, width=width
    )


def as_text(value: object) -> str:
    r"""Return a value as text that Markdown shows as it is.

    Example:
        >>> as_text("a|b_c <i>")
        'a\\|b\\_c \\<i\\>'
    """
    return re.sub(r"([\\`*_\[\]<>#|~&])", r"\\\1", printable(str(value)))


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _results(
    metadata: Mapping[str, Any], agreement: Agreement | None, tested: Mapping[str, Any]
) -> Iterator[dict[str, str]]:
    """Yield the metrics: those of this file, of the checkpoint's test, and of the validation during training."""
    if agreement is not None:
        images = f"{agreement.images:,} {agreement.images_name}"
        for metric, value in (("this file", agreement.accuracy), ("the checkpoint", agreement.checkpoint_accuracy)):
            yield {"images": images, "metric": f"accuracy of {metric}", "value": _percent(value)}
    groups = (
        (f"{tested.get('images')} test images, by the command test", tested, "test/"),
        ("validation images, in training", metadata["metrics"], "val/"),
    )
    for images, metrics, prefix in groups:
        for name, value in metrics.items():
            if name.startswith(prefix) and isinstance(value, int | float):
                shown = _percent(value) if name.endswith("acc") else f"{value:.4f}"
                yield {"images": images, "metric": name, "value": shown}


def _settings(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for place in _SETTINGS:
        value: Any = config
        for name in place.split("."):
            value = (init_args(value) or value).get(name) if isinstance(value, Mapping) else None
        if value is not None:
            yield place, _shown(value)


def _shown(value: object) -> str:
    """Return a setting in a line: of a class, its name and its arguments."""
    if isinstance(value, Mapping) and isinstance(path := value.get("class_path"), str):
        given = ", ".join(f"{k}={_shown(v)}" for k, v in init_args(value).items() if v not in (None, False))
        return f"{path.rpartition('.')[2]}({given})"
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)


def _network_name(metadata: Mapping[str, Any]) -> str:
    model = metadata["config"].get("model") or {}
    network = init_args(model).get("network")
    path = (network if isinstance(network, Mapping) else model).get("class_path", "a network")
    return str(path).rpartition(".")[2].removesuffix("Classifier")


def _data_name(metadata: Mapping[str, Any]) -> str:
    data = metadata["config"].get("data") or {}
    return str(data.get("class_path", "unknown data")).rpartition(".")[2].removesuffix("DataModule")


def _framing(metadata: Mapping[str, Any]) -> str:
    match metadata["framing"]:
        case {"side": side, "by_mass": by_mass}:
            middle = "centre of mass" if by_mass else "bounding box"
            return (
                f"The training images are cropped to their foreground, which is light on black, is at most {side} "
                f"pixels long, and is centred by its {middle}."
            )
        case {"mode": mode}:
            how = {"crop": "the largest centred part", "pad": "the whole image, on black"}.get(mode, "all, distorted")
            return f"The training images were resized with antialiasing, bilinearly: {how}."
    return "How the training images were made from larger ones is not recorded."
