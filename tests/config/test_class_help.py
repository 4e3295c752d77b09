"""The help of a class that a setting takes: its arguments, as flags."""

import pytest

from lightning_cnn.config.class_help import class_help
from lightning_cnn.config.flags import Flag
from lightning_cnn.errors import UserError
from lightning_cnn.training.commands import main
from lightning_cnn.training.options import schema


def help_of(setting: str, name: str | None = None) -> str:
    """Return the help in one line."""
    return " ".join(class_help("fit", Flag(setting, name), schema("fit")).split())


@pytest.mark.parametrize(
    ("setting", "name", "shown"),
    [
        ("model", "CNNClassifier", "--model.optimizer OPTIMIZER Builds the optimizer"),
        ("model", "CNNClassifier", "(class, default: Adam)"),
        (
            "model.network",
            "ThreeStageCNN",
            "at least 1; the later ones have two and four times as many. (int, default: 64)",
        ),
        (
            "model.optimizer",
            "SGD",
            "usage: lightning-cnn fit --model.optimizer SGD [--model.optimizer.ARGUMENT VALUE ...]",
        ),
        ("model.scheduler", "OneCycleLR", "--model.scheduler.max_lr MAX_LR"),
        ("model.metrics", "MulticlassF1Score", "--model.metrics.NAME.average AVERAGE"),
        ("model.metrics.f1", "MulticlassF1Score", "--model.metrics.f1.average AVERAGE"),
        ("data", "ImageFolderDataModule", "arguments: --data.root ROOT"),  # what is required comes first
        ("data.augment", "RandomCrop", "(one of 'reflect', 'zeros', default: reflect)"),
        ("trainer.callbacks", "EarlyStopping", "quantity to be monitored. (str, required)"),
        ("trainer.strategy", "DDPStrategy", "--trainer.strategy.accelerator ACCELERATOR (class, default: null)"),
    ],
)
def test_arguments_are_shown_as_flags(setting, name, shown):
    assert shown in help_of(setting, name)


def test_a_function_shows_the_arguments_that_it_passes_on():
    shown = help_of("model.network", "torchvision.models.resnet18")

    assert "--model.network.zero_init_residual ZERO_INIT_RESIDUAL (default: false)" in shown


@pytest.mark.parametrize(
    ("setting", "name"),
    [("model", "ImageClassifier"), ("model.network", "CNN"), ("model.network", "torchvision.models.vgg11")],
)
def test_what_follows_from_the_data_is_not_shown(setting, name):
    assert "num_classes NUM_CLASSES" not in help_of(setting, name)


@pytest.mark.parametrize(
    ("setting", "name", "message"),
    [
        ("model", None, r"^--model.help needs the name of a class \(choose from .*CNNClassifier, .*\)$"),
        ("model", "SimpleCNN", "^--model SimpleCNN: there is no such model class; did you mean 'SimpleCNNClassifier'"),
        ("model.network", "no.Net", "^--model.network no.Net: there is no module 'no' on Python's path"),
        ("model.optimizer", "torch.optim.lr_scheduler.StepLR", "this class is not a subclass of torch's Optimizer"),
        (
            "trainer.profiler",
            "simple",
            "^--trainer.profiler.help simple: this is no class, but a name that the Trainer",
        ),
        (
            "trainer",
            None,
            "^--trainer.help: --trainer takes no class; `lightning-cnn fit --help_all` lists all options$",
        ),
        ("model.network", "", r"^--model.network.help needs the name of a class \(choose from CNN, "),
        ("model.metrics", None, "^--model.metrics.help needs the name of a class"),
        ("data.root", "photos", "^--data.root.help: --data.root takes no class"),
        ("trainer.epochs", None, "^there is no option --trainer.epochs; did you mean '--trainer.min_epochs'"),
        ("optimizer", "SGD", "^there is no option --optimizer; did you mean '--model.optimizer'"),
    ],
)
def test_what_has_no_help_is_refused_in_one_line(setting, name, message):
    with pytest.raises(UserError, match=message):
        help_of(setting, name)


def test_the_command_line_prints_it(capsys):
    assert main(["validate", "--config", "mnist/cnn", "--model.network.help", "ThreeStageCNN"]) == 0

    assert capsys.readouterr().out.startswith("usage: lightning-cnn validate --model.network ThreeStageCNN")
