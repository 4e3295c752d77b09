import json
from pathlib import Path

import pytest
import torch
import yaml

from lightning_cnn.config.parser import with_checkpoint
from lightning_cnn.errors import UserError


@pytest.fixture
def mlp_run(fit):
    return fit("fashion_mnist/mlp.yaml", "--model.optimizer.lr", 0.125, "--data.batch_size", 50)


def config_of(run: Path) -> dict:
    return yaml.safe_load((run / "config.yaml").read_text())


def learning_rate(run: Path) -> float:
    return config_of(run)["model"]["init_args"]["optimizer"]["init_args"]["lr"]


# What comes first


def test_without_a_checkpoint_nothing_is_changed():
    argv = ["fit", "--config", "some.yaml", "--model.optimizer.lr", "1"]

    assert with_checkpoint(argv) == (argv, None)


def test_what_the_checkpoint_says_stands_before_all_that_was_given(mlp_run):
    argv, path = with_checkpoint(["test", "--data.batch_size", "3", "--ckpt_path", str(mlp_run)])

    assert path == mlp_run / "checkpoints" / "best.ckpt"
    assert argv[:2] == ["test", "--config"]
    assert json.loads(argv[2]) == {
        "model": config_of(mlp_run)["model"],
        "data": config_of(mlp_run)["data"],
        "trainer": {"precision": config_of(mlp_run)["trainer"]["precision"]},
    }
    assert argv[3:] == ["--data.batch_size", "3", "--ckpt_path", str(path)]


def test_going_on_takes_all_of_it_but_where_to_write_and_the_last_checkpoint(mlp_run):
    argv, path = with_checkpoint(["fit", "--ckpt_path", str(mlp_run)])

    expected = config_of(mlp_run)
    expected.pop("ckpt_path", None)
    del expected["trainer"]["default_root_dir"], expected["trainer"]["model_registry"]
    assert path == mlp_run / "checkpoints" / "last.ckpt"
    assert json.loads(argv[2]) == expected


@pytest.mark.parametrize("command", ["validate", "test"])
def test_measuring_needs_a_checkpoint(command):
    with pytest.raises(UserError, match=f"^{command} needs --ckpt_path: a file, a run folder, `best` or `last`$"):
        with_checkpoint([command, "--model", "CNNClassifier"])


@pytest.mark.parametrize("argv", [["--ckpt_path=last"], ["--ckpt_path", "last"]])
def test_both_ways_to_write_a_flag(mlp_run, argv):
    assert with_checkpoint(["test", *argv])[1] == mlp_run / "checkpoints" / "last.ckpt"


# Which value wins


def test_config_beats_defaults_and_flags_beat_config(tiny_data, cli, configs):
    tiny = ("--data.val_size", 50, "--trainer.limit_train_batches", 1)
    assert yaml.safe_load((configs / "default.yaml").read_text())["trainer"]["max_epochs"] == 5
    config = configs / "fashion_mnist" / "shallow_cnn.yaml"
    cli("fit", "--config", config, *tiny)
    cli("fit", "--config", config, *tiny, "--trainer.max_epochs", 1)
    cli("fit", "--trainer.max_epochs", 1, "--config", config, *tiny)

    epochs = [config_of(Path(f"logs/fashion_mnist-shallow_cnn/version_{n}"))["trainer"]["max_epochs"] for n in range(3)]
    assert epochs[:2] == [2, 1]
    assert epochs[2] == 1  # wherever the flag stands


def test_a_second_config_beats_the_first(tiny_data, cli, configs):
    Path("mine.yaml").write_text("trainer: {max_epochs: 1}\ndata: {init_args: {val_size: 50, batch_size: 75}}\n")

    outcome = cli("fit", "--config", configs / "fashion_mnist" / "mlp.yaml", "--config", "mine.yaml")

    assert outcome.status == 0, outcome.err
    config = config_of(Path("logs/fashion_mnist-mlp/version_0"))
    assert config["trainer"]["max_epochs"] == 1
    assert config["data"]["init_args"]["batch_size"] == 75
    assert config["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.01


def test_the_checkpoint_beats_the_defaults(mlp_run, cli):
    assert cli("fit", "--ckpt_path", mlp_run, "--trainer.max_epochs", 2).status == 0

    assert learning_rate(mlp_run) == 0.125
    assert config_of(mlp_run)["data"]["init_args"]["batch_size"] == 50
    assert config_of(mlp_run)["model"]["class_path"].endswith("MLPClassifier")


def test_the_config_beats_the_checkpoint(mlp_run, cli, configs):
    config = configs / "fashion_mnist" / "mlp.yaml"
    flags = ("--trainer.max_epochs", 2, "--model.optimizer.lr", learning_rate(mlp_run))  # which a run keeps

    assert cli("fit", "--config", config, "--ckpt_path", mlp_run, *flags).status == 0

    assert config_of(mlp_run)["data"]["init_args"]["batch_size"] == 64
    assert config_of(mlp_run)["data"]["init_args"]["val_size"] == 50  # the config does not say


def test_flags_beat_the_checkpoint(mlp_run, cli):
    flags = ("--trainer.max_epochs", 2, "--checkpoints.every_n_steps", 3, "--data.batch_size", 25)

    assert cli("fit", "--ckpt_path", mlp_run, *flags).status == 0

    assert config_of(mlp_run)["checkpoints"]["every_n_steps"] == 3
    assert config_of(mlp_run)["data"]["init_args"]["batch_size"] == 25


def test_another_dataset_by_flag_beats_that_of_the_checkpoint(mlp_run, cli):
    outcome = cli("test", "--ckpt_path", mlp_run, "--data", "MNISTDataModule")

    assert outcome.status == 0, outcome.err
    assert json.loads((mlp_run / "test_metrics.json").read_text())["data"]["dataset"] == "MNIST"


def test_it_is_measured_in_the_precision_of_its_training(fit, cli):
    run = fit("fashion_mnist/mlp.yaml", "--trainer.limit_train_batches", 1, "--trainer.precision", "64-true")

    outcome = cli("test", "--ckpt_path", run)

    assert outcome.status == 0, outcome.err
    assert torch.load(run / "checkpoints/best.ckpt", weights_only=True)["state_dict"]["mean"].dtype == torch.float64
    assert "64-true" in with_checkpoint(["test", "--ckpt_path", str(run)])[0][2]


def test_how_else_it_was_trained_does_not_matter_where_it_is_measured(fit, cli):
    run = fit("fashion_mnist/mlp.yaml", "--trainer.limit_train_batches", 1, "--trainer.limit_test_batches", 0.5)

    assert cli("test", "--ckpt_path", run, "--data.eval_batch_size", 10).status == 0

    assert json.loads((run / "test_metrics.json").read_text())["images"] == 100
