"""Runs with a network, a loss and metrics that the user has brought."""

import re
import signal
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from lightning_cnn import checkpoint
from lightning_cnn.callbacks import Checkpoints
from lightning_cnn.config.loading import load_classifier

OWN = """
from torch import nn
from torch.nn import functional

class Loss(nn.Module):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, logits, targets):
        return self.scale * functional.cross_entropy(logits, targets)

def build(num_classes, width=4, pretrained=False):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, num_classes))
"""
PLAIN = (
    *("--data", "MNISTDataModule", "--data.val_size", 50, "--data.batch_size", 30, "--trainer.max_epochs", 2),
    *("--plots.enabled", "false", "--dashboard.enabled", "false", "--trainer.precision", "32-true"),
)


@pytest.fixture
def own(user_module) -> str:
    """The name of a module of the user's."""
    return user_module("own", OWN)


def run_below(root: str) -> Path:
    (run,) = Path(root).glob("*/version_*")
    return run


def test_a_run_with_parts_of_the_user_is_resumed_exactly_in_the_middle_of_an_epoch(own, cli, tiny_data, monkeypatch):
    parts = (
        *("--model.network", f"{own}.build", "--model.network.width", 5, "--model.network.pretrained", "true"),
        *("--model.loss", f"{own}.Loss", "--model.loss.scale", 0.5, "--model.optimizer.lr", 0.003),
        *("--model.metrics.f1", "MulticlassF1Score", "--model.metrics.f1.average", "weighted"),
        *("--model.metrics.auroc", "MulticlassAUROC", "--checkpoints.monitor", "val/f1"),
        *("--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val/f1"),
        *("--trainer.callbacks.mode", "max"),
    )
    whole = cli("fit", *PLAIN, *parts, "--trainer.default_root_dir", "whole")
    assert whole.status == 0, whole.err
    is_due = Checkpoints.is_due

    def is_due_or_stop(self, trainer):
        if trainer.global_step == 2:
            signal.raise_signal(signal.SIGTERM)  # handled at the next step boundary, after three of five steps
        return is_due(self, trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "is_due", is_due_or_stop)
        stopped = cli("fit", *PLAIN, *parts, "--trainer.default_root_dir", "stopped")
    (hint,) = re.findall(r"resume from step 3 with: python -m lightning_cnn (.*)", stopped.err)

    resumed = cli(*hint.split())

    assert resumed.status == 0, resumed.err
    runs = run_below("whole"), run_below("stopped")
    metrics, again = ((run / "metrics.csv").read_text() for run in runs)
    assert metrics == again
    assert {"train/auroc", "train/f1", "val/auroc", "val/f1"} <= set(metrics.partition("\n")[0].split(","))
    contents = [checkpoint.read(run / "checkpoints/best.ckpt") for run in runs]
    assert all(torch.equal(w, contents[1]["state_dict"][name]) for name, w in contents[0]["state_dict"].items())

    # The monitored metric
    epochs = [line for line in whole.out.splitlines() if line.startswith("epoch ")]
    assert all(re.search(r"val/f1 0\.\d{4}, best 0\.\d{4}", line) for line in epochs)
    best = contents[0]["callbacks"][next(key for key in contents[0]["callbacks"] if key.startswith("Checkpoints"))]
    assert f"/best.ckpt (val/f1 {best['best_model_score'].item():.4f})" in whole.out

    # What the run has recorded, and who may use it
    model = yaml.safe_load((runs[0] / "config.yaml").read_text())["model"]["init_args"]
    assert model["loss"] == {"class_path": f"{own}.Loss", "init_args": {"scale": 0.5}}
    assert model["network"]["class_path"] == f"{own}.build"
    for run in runs:  # also where it was resumed, from a checkpoint that has the weights
        settings = yaml.safe_load((run / "config.yaml").read_text())
        assert settings["model"]["init_args"]["network"]["init_args"]["pretrained"] is True
        assert checkpoint.read(run / "checkpoints/last.ckpt")["lightning_cnn"]["config"]["model"] == settings["model"]
    assert model["metrics"]["f1"]["class_path"] == "torchmetrics.classification.MulticlassF1Score"
    assert load_classifier(contents[0], f"{own}.build").loss is None
    (command,) = re.findall("Test it:    python -m lightning_cnn (.*)", whole.out)
    tested = cli(*command.split())
    assert tested.status == 0, tested.err
    assert re.search(r"^Test f1: 0\.\d{4} \(validation f1 in training: 0\.\d{4}\)$", tested.out, re.MULTILINE)


def test_a_run_with_a_loss_of_the_user_is_exported_without_it(own, cli, tiny_data):
    fitted = cli("fit", *PLAIN, "--model.network", "CNN", "--model.loss", f"{own}.Loss", "--trainer.max_epochs", 1)
    assert fitted.status == 0, fitted.err
    (run,) = Path("logs").glob("*/version_*")
    export = ("export", run, "--output", "own.onnx")

    refused, exported = cli(*export), cli(*export, "--model.loss", f"{own}.Loss")

    assert refused.status == 2 and f"add --model.loss {own}.Loss" in refused.err
    assert exported.status == 0, exported.err


def test_early_stopping_stops_by_a_metric_of_the_user_s_choice(cli, tiny_data):
    flags = (
        *("--model", "MLPClassifier", *PLAIN, "--model.optimizer.lr", 0, "--trainer.max_epochs", 9),
        *("--model.metrics.f1", "MulticlassF1Score", "--trainer.callbacks", "EarlyStopping"),
        *("--trainer.callbacks.monitor", "val/f1", "--trainer.callbacks.mode", "max"),
        *("--trainer.callbacks.patience", 2),
    )

    assert cli("fit", *flags).status == 0

    values = run_below("logs").joinpath("metrics.csv").read_text().splitlines()
    column = values[0].split(",").index("val/f1")
    assert len({row.split(",")[column] for row in values[1:]} - {""}) == 1  # as nothing is learnt
    assert sum(bool(row.split(",")[column]) for row in values[1:]) == 3  # the first epoch, and two of patience


def test_a_network_of_this_package_is_trained_by_the_classifier_of_any_network(cli, tiny_data):
    outcome = cli("fit", "--model", "ImageClassifier", "--model.network", "MLP", *PLAIN, "--trainer.max_epochs", 1)

    assert outcome.status == 0, outcome.err
    config = yaml.safe_load((run_below("logs") / "config.yaml").read_text())
    assert config["model"]["class_path"] == "lightning_cnn.classifiers.ImageClassifier"


def test_a_network_of_torchvision_for_colour_images_learns_from_grey_ones(cli, tiny_data):
    flags = (
        *("--model.network", "torchvision.models.resnet18", *PLAIN, "--trainer.max_epochs", 1, "--data.batch_size", 16),
        *("--trainer.limit_train_batches", 1, "--trainer.limit_val_batches", 1, "--trainer.limit_test_batches", 1),
        *("--data.eval_batch_size", 16, "--trainer.enable_model_summary", "false"),
    )

    outcome = cli("fit", *flags, "--test", "true")

    assert outcome.status == 0, outcome.err
    content = checkpoint.read(run_below("logs") / "checkpoints/last.ckpt")
    assert content["global_step"] == 1
    network = load_classifier(content).network
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_181_642  # torchvision's, for ten classes


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--model.network {own}.OWN", r"--model\.network own_\d+\.OWN: there is no such network class.*"),
        (
            "--model.network {own}.functional",
            r"--model\.network .*: this is neither a class nor a function that .*module.*",
        ),
        (
            "--model.network {own}.Loss --model.network.scal 2",
            r"--model\.network\.scal 2: Loss has no setting 'scal'; did.*",
        ),
        (
            "--model.network os.PathLike",
            r"--model\.network os\.PathLike: this class is not a subclass of torch's Module; .*",
        ),
        (
            "--model.network CNN --model.metrics.f1 MulticlassF1Scor",
            r"--model\.metrics\.f1 .*; did you mean 'MulticlassF1.*",
        ),
        (
            "--model.network CNN --model.metrics.f1 BinaryF1Score",
            r"--model\.metrics\.f1 BinaryF1Score: this metric does not.*",
        ),
        (
            "--model.network CNN --model.metrics.f1 torchmetrics.MeanSquaredError",
            r"--model\.metrics\.f1 .*: this metric .*",
        ),
        (
            "--model.network CNN --model.metrics.c MulticlassConfusionMatrix",
            r"--model\.metrics\.c: must be one number, .*",
        ),
        (
            "--model.network CNN --model.metrics.f1.average micro",
            r"--model\.metrics\.f1\.average: --model\.metrics\.f1 has no .*",
        ),
        (
            "--model.network CNN --model.loss FocalLos",
            r"--model\.loss FocalLos: there is no such loss class; did you mean 'F.*",
        ),
        (
            "--model.network CNN --model.loss BCELoss",
            r"--model\.loss BCELoss does not take logits \(B, 10\) and targets.*",
        ),
        (
            "--model.network CNN --model.num_classes 10",
            r"--model\.num_classes 10: it follows from the data; leave it out",
        ),
    ],
)
def test_parts_that_do_not_fit_are_one_line(own, cli, tiny_data, flags, message):
    outcome = cli("fit", *PLAIN, *flags.format(own=own).split())

    assert outcome.status == 2, outcome.err
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("lightning-cnn: ")]
    assert re.fullmatch(f"lightning-cnn: error: {message}", line), line
    assert not Path("logs").exists()


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("network", {"class_path": "os.mkdir", "init_args": {"path": "made"}}),
        (
            "network",
            {"class_path": "torchvision.models.get_model", "init_args": {"name": "vgg11", "weights": "DEFAULT"}},
        ),
        ("loss", {"class_path": "torchvision.models.resnet18", "init_args": {"weights": "DEFAULT"}}),
        ("metrics", {"f1": {"class_path": "os.mkdir", "init_args": {"path": "made"}}}),
    ],
)
def test_a_checkpoint_cannot_make_anything_be_called(mlp_run, cli, command, part, named):
    path = mlp_run / "checkpoints/best.ckpt"
    content = torch.load(path, weights_only=True)
    network = {"class_path": "lightning_cnn.networks.MLP"}
    model = {"class_path": "lightning_cnn.classifiers.ImageClassifier", "init_args": {"network": network, part: named}}
    content["lightning_cnn"]["config"]["model"] = model
    content["hyper_parameters"][part] = named
    torch.save(content, path)
    png = Path("image.png")
    Image.fromarray(torch.randint(256, (28, 28), dtype=torch.uint8).numpy()).save(png)

    outcome = cli(command, path, *([png] if command == "predict" else []))

    is_used = part == "network" or command != "predict"  # which needs neither loss nor metrics
    assert outcome.status == (2 if is_used else 0), outcome.err
    assert ("the checkpoint names" in outcome.err) == is_used
    assert not Path("made").exists()
