"""The section on a folder of images: decoding, the cache, and epochs against torchvision's `ImageFolder`."""

import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.options import Options
from benchmarks.process import call, progress
from benchmarks.report import Table, by, column, pairwise, spread
from benchmarks.section import Measurements, repeats


def measure_folder(options: Options) -> Measurements:
    """Decode Fashion-MNIST as image files in colour, open it from the cache, and train on it in both ways."""
    measurements = []
    with tempfile.TemporaryDirectory(prefix="lightning-cnn-") as folder:
        root, data = str(Path(folder, "images")), {"data_dir": str(options.data_dir)}
        count = call("folder.write", root=root, allow_sample=options.allow_sample, **data)
        progress(f"{count:,} files written")
        for system, seed, text in repeats(options):
            cache = str(Path(folder, f"cache {system} {seed}"))
            times = {name: call("folder.open_images", root=root, cache=cache) for name in ("decoded", "cached")}
            arguments = {"root": root, "system": system, "seed": seed, "limit_batches": options.limit_batches}
            plain = call("folder.train_image_folder", **arguments)
            fit = call("folder.fit", cache=cache, **arguments)
            measurements.append({"system": system, "files": count, **times, "plain": plain, "fit": fit})
            progress(f"{text}: ImageFolder {plain['seconds']:.1f} s, fit {fit['seconds']:.1f} s")
    return measurements


def folder_table(measurements: Measurements) -> Table:
    """One row per network."""
    rows = []
    for system, runs in by(measurements, "system").items():
        decoded, cached = (spread([run[name] for run in runs], 1) for name in ("decoded", "cached"))
        plain, fit = (column(runs, name, "seconds") for name in ("plain", "fit"))
        ratio = spread(pairwise(plain, fit), 1, " ×")
        rows.append([system, f"{runs[0]['files']:,}", decoded, cached, spread(plain, 1), spread(fit, 1), ratio])
    return Table(
        ["network", "files", "decode s", "from cache s", "ImageFolder s", "fit s", "ImageFolder/fit"],
        rows,
        "JPEG files of 28×28 pixels in colour; to the end of `setup`, without imports. Epochs with validation at batch "
        "size 64,\nagainst torchvision's ImageFolder and a DataLoader with two workers, in float32 without Lightning.",
    )


def write(root: str, data_dir: str, allow_sample: bool) -> int:
    """Write Fashion-MNIST as JPEG files into class folders, each class in a colour, and return their number."""
    import numpy as np
    from PIL import Image

    from lightning_cnn.data import sources
    from lightning_cnn.data.fashion_mnist import FASHION_MNIST

    raw = sources.load(FASHION_MNIST, Path(data_dir), allow_sample)
    tints = np.random.default_rng(0).uniform(0.5, 1, (10, 3))
    number = 0
    for part, images, labels in (
        ("train", raw.train_images, raw.train_labels),
        ("test", raw.test_images, raw.test_labels),
    ):
        for label in range(10):
            Path(root, part, str(label)).mkdir(parents=True)
        for image, label in zip(images, labels.tolist(), strict=True):
            colour = (image[..., None] * tints[label]).astype(np.uint8)
            Image.fromarray(colour).save(Path(root, part, str(label), f"{number}.jpg"))
            number += 1
    return number


def open_images(root: str, cache: str) -> float:
    """Return the seconds until the images of a folder can be trained on, decoded first unless the cache has them."""
    datamodule = _datamodule(root, cache)
    from benchmarks.device import now

    started = now()
    datamodule.prepare_data()
    datamodule.setup("fit")
    return now() - started


def fit(root: str, cache: str, system: str, seed: int, limit_batches: int | None) -> dict[str, float]:
    """Train the network of a system for an epoch with our Trainer and data module, and validate it."""
    from lightning.pytorch import Callback, seed_everything

    from benchmarks.device import now
    from lightning_cnn import networks
    from lightning_cnn.classifiers import ImageClassifier
    from lightning_cnn.training import Trainer
    from lightning_cnn.training.setup import choose_precision

    seed_everything(seed, verbose=False)
    datamodule = _datamodule(root, cache)
    model = ImageClassifier(getattr(networks, system), in_channels=3, image_size=28)
    times = []

    class Stopwatch(Callback):
        def on_train_start(self, *_: Any) -> None:
            times.append(now())

        def on_validation_end(self, *_: Any) -> None:
            times.append(now())

    options = {"precision": "auto", "accelerator": "auto", "plugins": None}
    Trainer(
        max_epochs=1,
        precision=choose_precision(options, model, datamodule.batch_size),
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        limit_train_batches=limit_batches,
        limit_val_batches=limit_batches,
        callbacks=[Stopwatch()],
    ).fit(model, datamodule)
    return {"seconds": times[-1] - times[0], "images": len(datamodule.train_set)}


def train_image_folder(root: str, system: str, seed: int, limit_batches: int | None) -> dict[str, float]:
    """Train the same network for an epoch as a notebook would, and validate it on as many images."""
    import torch
    from torch.nn import functional
    from torch.utils.data import DataLoader, random_split
    from torchvision import datasets, transforms  # type: ignore[import-untyped]

    from benchmarks.device import best_device, now
    from benchmarks.plain import batches, evaluate
    from benchmarks.systems import BATCH_SIZE, EVAL_BATCH_SIZE
    from lightning_cnn import networks

    torch.manual_seed(seed)
    images = datasets.ImageFolder(f"{root}/train", transforms.ToTensor())
    held_out = max(1, len(images) // 12)
    train_set, val_set = random_split(images, [len(images) - held_out, held_out])
    train_loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True, num_workers=2)
    val_loader = DataLoader(val_set, batch_size=EVAL_BATCH_SIZE, num_workers=2)
    model = getattr(networks, system)(in_channels=3).to(best_device())
    optimizer = torch.optim.Adam(model.parameters())

    started = now()
    for pixels, targets in batches(train_loader, limit_batches):
        optimizer.zero_grad()
        functional.cross_entropy(model(pixels), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    evaluate(model, val_loader, limit_batches)
    return {"seconds": now() - started, "images": len(train_set)}


def _datamodule(root: str, cache: str) -> Any:
    from lightning_cnn.data import ImageFolderDataModule

    os.environ["LIGHTNING_CNN_CACHE_DIR"] = cache
    return ImageFolderDataModule(root, image_size=28, val_size=1 / 12, duplicates="keep")
