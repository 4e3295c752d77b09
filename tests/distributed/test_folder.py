"""A folder of images in one and in two processes, from the command line."""

import csv
import json
from pathlib import Path

import pytest
from data.image_folders import CLASSES, write_images
from distributed.processes import run

FIT = (
    *("fit", "--model.network", "CNN", "--model.class_weights", "balanced"),
    *("--data", "ImageFolderDataModule", "--data.root", "../photos", "--data.image_size", "12", "--test", "true"),
    *("--data.global_batch_size", "16", "--data.eval_batch_size", "2", "--trainer.max_epochs", "1"),
    *("--trainer.precision", "64-true", "--plots.enabled", "false", "--dashboard.enabled", "false"),
    *(
        "--trainer.enable_progress_bar",
        "false",
    ),
)


def content(folder: Path, name: str) -> str:
    (file,) = (folder / "logs").glob(f"*/*/{name}")
    return file.read_text(encoding="utf-8")


def test_two_processes_split_weigh_and_test_a_folder_as_one_does(data, tmp_path):
    write_images(tmp_path / "photos")
    write_images(tmp_path / "photos", classes=CLASSES[:1], n=25)  # so that classes have other weights
    folders = {count: tmp_path / str(count) for count in (1, 2)}

    for count, folder in folders.items():
        ended = run((*FIT, "--trainer.strategy", "ddp"), folder=folder, data=data, processes=count)
        assert ended.status == 0, ended.output
        assert ended.output.count("decoding ") == (count == 1)  # from the cache of the first run
        assert ended.output.count("Run folder: ") == 1

    one, two = folders.values()
    assert content(two, "split.csv") == content(one, "split.csv")
    assert content(two, "test_predictions.csv") == content(one, "test_predictions.csv")
    assert json.loads(content(two, "data.json")) == json.loads(content(one, "data.json"))
    rows = [[*csv.DictReader(content(folder, "metrics.csv").splitlines())] for folder in (one, two)]
    losses = [[float(row["train/loss"]) for row in of_run if row["train/loss"]] for of_run in rows]
    assert losses[1] == pytest.approx(losses[0], rel=1e-12)  # also the weights of the classes are the same
