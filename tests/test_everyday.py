import argparse
from unittest import mock

import pytest

from lightning_cnn.cli import main
from lightning_cnn.config.flags import Flag
from lightning_cnn.config.settings import apply_flags
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.everyday import EVERYDAY
from lightning_cnn.training.options import schema

#: A value for each everyday setting that is no number.
VALUES = {
    "model": "CNNClassifier",
    "model.network": "CNN",
    "data": MNISTDataModule.__name__,
    "data.data_dir": "data",
    "test": "true",
    "overwrite": "true",
    "verbose": "true",
    "trainer.accelerator": "cpu",
}


@pytest.mark.parametrize("command", EVERYDAY)
def test_help_is_short_and_names_the_way_to_all_options(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([command, "--config", "mnist/cnn", "--help"]) == 0

    lines = capsys.readouterr().out.splitlines()
    checkpoint = "[CHECKPOINT ...]" if command == "test" else "[CHECKPOINT]"
    assert lines[0] == f"usage: lightning-cnn {command} {checkpoint} [--config FILE] [--NAME VALUE ...]"
    assert lines[-1] == f"`lightning-cnn {command} --help_all` lists all options."
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(("command", "name"), [(command, name) for command in EVERYDAY for name in EVERYDAY[command]])
def test_every_everyday_option_is_a_setting(command, name):
    model = "lightning_cnn.classifiers.ImageClassifier" if name == "model.network" else "CNNClassifier"
    tree = {"model": {"class_path": model}, "data": {"class_path": MNISTDataModule.__name__}}
    settings = apply_flags(tree, [Flag("model.optimizer", "Adam"), Flag(name, VALUES.get(name, "1"))], schema(command))

    schema(command).check(settings)


def test_help_all_shows_the_whole_parser():
    with mock.patch.object(argparse.ArgumentParser, "print_help", autospec=True) as print_help:
        assert main(["fit", "--help_all"]) == 0

    names = {name for action in print_help.call_args.args[0]._actions for name in action.option_strings}
    assert {"--trainer.gradient_clip_val", "--plots.test_images", "--resume"} <= names


def test_help_with_a_hyphen_is_corrected(capsys):
    assert main(["fit", "--help-all"]) == 2

    assert "did you mean '--help_all'?" in capsys.readouterr().err
