"""Input pipelines alone: images for the network, without a network."""

from itertools import islice

import torch
from torch.utils.data import DataLoader

from benchmarks.device import best_device, now
from benchmarks.plain import subsets
from benchmarks.systems import BATCH_SIZE, build
from lightning_cnn.data.batches import Images
from lightning_cnn.startup import tune_process


def ours(system: str, data_dir: str, allow_sample: bool, seed: int, limit_batches: int | None) -> dict[str, float]:
    """Make every training image of a system ready for its network, as `fit` does.

    Args:
        system: One of `SYSTEMS`.
        data_dir: The folder of the datasets.
        allow_sample: Whether the small sample will do.
        seed: Of order and augmentation.
        limit_batches: Stop after so many batches; None takes all.

    Returns:
        The seconds and the number of images.
    """
    torch.manual_seed(seed)
    tune_process()
    device = best_device()
    classifier, datamodule = build(system, data_dir, allow_sample)
    classifier.to(device)
    datamodule.setup("fit")
    data = datamodule.train_set
    datamodule.train_set = Images(data.images.to(device), data.targets.to(device))  # where `fit` has them
    loader = datamodule.train_dataloader()

    started = now()
    seen = 0
    with torch.no_grad():
        for images, targets in islice(loader, limit_batches):
            classifier.preprocess(images)
            seen += len(targets)
    return {"seconds": now() - started, "train_images": seen}


def plain(system: str, folder: str, seed: int, limit_batches: int | None) -> dict[str, float]:
    """Make every training image of a system ready for its network, as notebooks do.

    Args:
        system: One of `SYSTEMS`.
        folder: The folder of the datasets, unpacked.
        seed: Of order and augmentation.
        limit_batches: Stop after so many batches; None takes all.

    Returns:
        The seconds and the number of images.
    """
    torch.manual_seed(seed)
    device = best_device()
    train_set, _ = subsets(system, folder)
    loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True)

    started = now()
    seen = 0
    for images, targets in islice(loader, limit_batches):
        images.to(device), targets.to(device)
        seen += len(targets)
    return {"seconds": now() - started, "train_images": seen}
