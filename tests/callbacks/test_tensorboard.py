import io
import os
import time

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from lightning_cnn.callbacks import tensorboard
from lightning_cnn.callbacks.tensorboard import (
    TensorBoard,
    add_embedding,
    add_figure,
    add_graph,
    add_hyperparameters,
    add_png,
)


@pytest.fixture
def writer(tmp_path):
    with SummaryWriter(tmp_path) as writer:
        yield writer


def events(writer):
    writer.flush()
    return EventAccumulator(str(writer.log_dir)).Reload()


def png(width, height):
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 10, 30)).save(file, format="png")
    return file.getvalue()


# The logger


def test_the_logger_writes_events_into_the_run_folder_and_nothing_else(tmp_path):
    logger = TensorBoard(tmp_path)
    logger.log_hyperparams({"lr": 0.1})
    logger.log_metrics({"val/acc": 0.5}, step=7)
    logger.save()

    (file,) = tmp_path.iterdir()
    assert file.name.startswith("events.out.tfevents.")
    (event,) = EventAccumulator(str(tmp_path)).Reload().Scalars("val/acc")  # though the logger is still open
    assert (event.step, event.value) == (7, 0.5)
    logger.finalize("success")
    assert list(tmp_path.iterdir()) == [file]


def test_logging_hyperparameters_adds_no_scalar(tmp_path):
    logger = TensorBoard(tmp_path)
    logger.log_hyperparams({"lr": 0.1})
    logger.finalize("success")

    assert EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"] == []


@pytest.mark.parametrize("clock", [-1000, 0, 1000])
@pytest.mark.parametrize("processes", [[8, 9, 10], [1, 1, 1], [10, 9, 8]])  # not in the order of text; all the same
def test_steps_stay_in_order_when_the_clock_is_changed(tmp_path, monkeypatch, clock, processes):
    start = time.time()
    for run, (now, first_step) in enumerate([(start, None), (start + clock, 2), (start + clock / 2, 4)]):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        monkeypatch.setattr(tensorboard, "time", time.time)
        monkeypatch.setattr(os, "getpid", lambda run=run: processes[run])
        logger = TensorBoard(tmp_path, first_step)
        for step in range(2 * run, 2 * run + 2):
            logger.log_metrics({"val/acc": 0.5}, step=step)
        logger.finalize("success")

    assert [event.step for event in EventAccumulator(str(tmp_path)).Reload().Scalars("val/acc")] == list(range(6))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_foreign_file_is_left_alone(tmp_path):
    (tmp_path / "events.out.tfevents.old").write_text("mine")

    logger = TensorBoard(tmp_path, first_step=2)
    logger.log_metrics({"val/acc": 0.5}, step=2)
    logger.finalize("success")

    assert (tmp_path / "events.out.tfevents.old").read_text() == "mine"


# Additions to the writer


def hparams(writer):
    """The columns of the HParams tab, and the values of the run."""
    metadata = events(writer).summary_metadata
    parts = [metadata[f"_hparams_/{name}"].plugin_data.content for name in ("experiment", "session_start_info")]
    experiment, start = map(HParamsPluginData.FromString, parts)
    return experiment.experiment, dict(start.session_start_info.hparams)


def test_hyperparameters_keep_their_values_and_types(writer):
    add_hyperparameters(writer, {"model": "MLP", "model.optimizer.lr": 0.25, "own": "[1, 2]"}, ["test/acc"])

    _, values = hparams(writer)
    assert set(values) == {"model", "model.optimizer.lr", "own"}  # columns of other runs have no value
    assert values["model"].string_value == "MLP"
    assert values["model.optimizer.lr"].number_value == 0.25
    assert values["own"].string_value == "[1, 2]"


def test_all_runs_have_the_common_columns(writer):
    add_hyperparameters(writer, {"model": "MLP", "own": 3}, ["val_best/acc", "test/acc"])

    experiment, _ = hparams(writer)
    columns = [column.name for column in experiment.hparam_infos]
    assert len(columns) == len(set(columns))
    assert {"model", "own", "data", "model.optimizer", "model.optimizer.lr", "data.batch_size"} <= set(columns)
    assert [metric.name.tag for metric in experiment.metric_infos] == ["val_best/acc", "test/acc"]


def test_the_hparams_tab_adds_no_scalars(writer):
    add_hyperparameters(writer, {"model": "MLP"}, ["test/acc"])

    assert events(writer).Tags()["scalars"] == []


def test_a_png_is_added_unchanged(writer):
    image = png(30, 20)

    add_png(writer, "test/mistakes", image, step=9)

    (event,) = events(writer).Images("test/mistakes")
    assert event.step == 9
    assert event.encoded_image_string == image


def test_a_figure_is_added_in_its_size(writer):
    add_figure(writer, "val/confusion_matrix", Figure(figsize=(3, 2)), step=5)

    (event,) = events(writer).Images("val/confusion_matrix")
    assert event.step == 5
    with Image.open(io.BytesIO(event.encoded_image_string)) as image:
        assert image.format == "PNG"
        assert image.size == (360, 240)


def test_the_graph_has_the_layers_of_the_network(writer):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, 10)).eval()

    add_graph(writer, network, torch.zeros(1, 1, 28, 28))

    operations = {node.op for node in events(writer).Graph().node}
    assert "aten::_convolution" in operations
    assert "aten::linear" in operations


def test_a_network_that_cannot_be_traced_has_no_graph(writer, caplog):
    class Untraceable(nn.Module):
        def forward(self, images):
            if torch.jit.is_tracing():
                raise RuntimeError("not in a trace\nmore")
            return images

    add_graph(writer, Untraceable(), torch.zeros(1, 1, 28, 28))

    assert not events(writer).Tags()["graph"]
    assert "No graph for TensorBoard: the network cannot be traced (not in a trace)" in caplog.text


def test_adding_the_graph_changes_neither_random_state_nor_network(writer):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten()).eval()
    weights, random = {name: tensor.clone() for name, tensor in network.state_dict().items()}, torch.get_rng_state()

    add_graph(writer, network, torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)))

    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())


# The projector


def test_an_embedding_has_features_labels_and_sprites(writer, tmp_path, capsys):
    features = torch.tensor([[1.0, 2.5], [3.0, -4.0], [0.0, 0.5]])
    images = torch.stack([torch.full((1, 4, 6), value, dtype=torch.uint8) for value in (0, 51, 255)])

    add_embedding(writer, "test", features, ["T-shirt/top", "Bag", "Bag"], images, step=12)

    folder = tmp_path / "00012" / "test"
    assert np.loadtxt(folder / "tensors.tsv", delimiter="\t").tolist() == features.tolist()
    assert (folder / "metadata.tsv").read_text() == "T-shirt/top\nBag\nBag\n"
    with Image.open(folder / "sprite.png") as sprite:
        assert sprite.size == (12, 12)  # two by two images of six by four, and the rest of the square
        assert [sprite.getpixel(corner) for corner in ((0, 0), (6, 0), (0, 4))] == [(v, v, v) for v in (0, 51, 255)]
    config = (tmp_path / "projector_config.pbtxt").read_text()
    assert 'tensor_path: "00012/test/tensors.tsv"' in config
    assert 'metadata_path: "00012/test/metadata.tsv"' in config
    assert "single_image_dim: 6\n    single_image_dim: 4" in config
    assert capsys.readouterr().out == ""


def test_an_embedding_replaces_one_of_the_same_step(writer, tmp_path, capsys):
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    for value in (1.0, 2.0):
        add_embedding(writer, "test", torch.full((2, 3), value), ["a", "b"], images, step=1)

    assert np.loadtxt(tmp_path / "00001" / "test" / "tensors.tsv", delimiter="\t").tolist() == [[2.0] * 3] * 2
    assert capsys.readouterr().out == ""
    add_embedding(writer, "test", torch.full((2, 3), 2.0), ["a", "b"], images, step=2)
    assert (tmp_path / "00002" / "test" / "tensors.tsv").is_file()
    assert "00002/test/tensors.tsv" in (tmp_path / "projector_config.pbtxt").read_text()


def test_features_in_bfloat16_are_written(writer, tmp_path):
    add_embedding(
        writer,
        "test",
        torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16),
        ["a"],
        torch.zeros(1, 1, 28, 28, dtype=torch.uint8),
        0,
    )

    assert (tmp_path / "00000" / "test" / "tensors.tsv").read_text() == "1.5\t-2.0\n"
