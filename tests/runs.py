"""Handwritten run folders, and the text of their reports."""

import hashlib
import html
import json
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

CLASSES = ["T-shirt/top", "Trouser", "Bag"]
CONFIG = """\
seed_everything: 3
trainer:
  precision: bf16-mixed
  max_epochs: 3
model:
  class_path: lightning_cnn.classifiers.ShallowCNNClassifier
  init_args:
    optimizer:
      class_path: torch.optim.SGD
      init_args:
        lr: 0.03
data:
  class_path: lightning_cnn.data.FashionMNISTDataModule
  init_args:
    batch_size: 64
"""
METRICS = """\
epoch,step,lr-SGD,train/acc,train/loss,train/loss_step,val/acc,val/loss
0,49,0.03,,,0.61,,
0,99,,0.75,0.5,,0.875,0.4375
1,199,,0.8125,0.4375,,0.9375,0.25
2,299,,0.90625,0.25,,0.90625,0.375
"""
DATA = {"dataset": "Fashion-MNIST", "origin": "gz files in data/FashionMNIST/raw", "sample": False}
ENVIRONMENT = {
    "python": "3.11.7",
    "platform": "Linux-6.1-x86_64",
    "processor": "AMD EPYC",
    "device": "cpu",
    "processes": 1,
    "threads": 2,
    "seed": 3,
    "git_revision": None,
    "working_directory_revision": None,
    "versions": {"lightning-cnn": "0.1.0", "torch": "2.15.0"},
    "parameters": 402986,
}
TEST = {
    "test/acc": 0.625,
    "test/loss": 0.6875,
    "images": 8,
    "checkpoint": "logs/a/checkpoints/best.ckpt",
    "checkpoint_sha256": hashlib.sha256(b"weights").hexdigest(),
    "data": DATA,
    "class_names": CLASSES,
}
#: True class, predicted class, confidence, loss; five of eight are correct.
PREDICTIONS = (
    ("T-shirt/top", "T-shirt/top", 0.75, 0.2877),
    ("T-shirt/top", "Bag", 0.5, 1.5),
    ("T-shirt/top", "Bag", 0.875, 2.5),
    ("T-shirt/top", "T-shirt/top", 1.0, 0.0),
    ("Bag", "T-shirt/top", 0.5, 4.5),
    ("Bag", "Bag", 0.75, 0.2877),
    ("Trouser", "Trouser", 1.0, 0.0),
    ("Trouser", "Trouser", 1.0, 0.0),
)


def write_run(
    folder: Path,
    config: str | None = CONFIG,
    metrics: str | None = METRICS,
    data: object = DATA,
    environment: object = ENVIRONMENT,
    test: object = TEST,
    predictions: Sequence[tuple[object, ...]] | str | None = PREDICTIONS,
    figures: Sequence[str] = ("samples", "predictions", "mistakes"),
) -> Path:
    """Write a run folder without the files that are None, and return it; strings are written unchanged."""
    if predictions is not None and not isinstance(predictions, str):
        lines = [",".join(map(str, (index, *row))) for index, row in enumerate(predictions)]
        predictions = "\n".join(["index,true,predicted,confidence,loss", *lines]) + "\n"
    contents = {
        "config.yaml": config,
        "metrics.csv": metrics,
        "data.json": data,
        "environment.json": environment,
        "test_metrics.json": test,
        "test_predictions.csv": predictions,
        "checkpoints/best.ckpt": "weights",
        "checkpoints/last.ckpt": "weights",
        "events.out.tfevents.1795285878.host.1.0": "",
    }
    for name, content in contents.items():
        if content is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    for name in figures:
        (folder / "plots").mkdir(exist_ok=True)
        (folder / "plots" / f"{name}.png").write_bytes(png(8, 4))
    return folder


def results_of(predictions: Sequence[tuple[object, ...]]) -> dict[str, object]:
    """Return the metrics of a test with these predictions; classes are in the order of the alphabet."""
    names = sorted({str(name) for true, predicted, *_ in predictions for name in (true, predicted)})
    return {**TEST, "images": len(predictions), "class_names": names}


def png(width: int, height: int) -> bytes:
    """Return a black PNG file."""
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0),
        b"IDAT": zlib.compress(bytes((width + 1) * height)),
        b"IEND": b"",
    }
    chunks = [
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts.items()
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def text(markup: str) -> str:
    """Return the text of a page or a part of it, with single blanks."""
    without_style = re.sub(r"<style>.*?</style>", "", markup, flags=re.DOTALL)
    blocks = re.sub(r"</?(wbr|span|code|a)\b[^>]*>", "", without_style)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", blocks)).split())


def rows(page: str, part: str) -> list[list[str]]:
    """Return the cells of all tables in the section with this id, row by row, headings included."""
    (section,) = re.findall(rf'<section id="{part}".*?</section>', page, flags=re.DOTALL)
    found = re.findall(r"<tr.*?</tr>", section, flags=re.DOTALL)
    return [[text(cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, flags=re.DOTALL)] for row in found]
