import json
import shlex
import sys
from pathlib import Path

import pytest
import torch
import yaml

from lightning_cnn.config.flags import read_command_line
from lightning_cnn.config.request import Request, read_request
from lightning_cnn.errors import UserError
from lightning_cnn.training.options import schema


@pytest.fixture
def mlp_run(trained):
    return trained("fashion_mnist/mlp.yaml", "--model.optimizer.lr", 0.125, "--data.batch_size", 50)


def request(command: str, *arguments: object) -> Request:
    return read_request(command, read_command_line([str(argument) for argument in arguments]), schema(command))


def config_of(run: Path) -> dict:
    return yaml.safe_load((run / "config.yaml").read_text())


def learning_rate(run: Path) -> float:
    return config_of(run)["model"]["init_args"]["optimizer"]["init_args"]["lr"]


# The checkpoint


def test_evaluation_takes_model_data_and_precision_of_the_checkpoint(mlp_run):
    found = request("test", "--data.batch_size", 3, mlp_run)

    assert found.checkpoint == mlp_run / "checkpoints" / "best.ckpt"
    assert found.settings["model"] == config_of(mlp_run)["model"]
    users = {"data_dir", "mirrors", "batch_size", "eval_batch_size", "global_batch_size"}
    expected = {k: v for k, v in config_of(mlp_run)["data"]["init_args"].items() if k not in users}
    assert found.settings["data"]["init_args"] == expected | {"batch_size": 3, "eval_batch_size": 1000}
    assert found.settings["trainer"]["precision"] == config_of(mlp_run)["trainer"]["precision"]
    assert "callbacks" not in found.settings["trainer"]  # nor any other setting of the training


def test_resuming_takes_the_last_checkpoint_and_its_settings_without_output_folders(mlp_run):
    found = request("fit", mlp_run)

    stored = config_of(mlp_run)
    assert found.checkpoint == mlp_run / "checkpoints" / "last.ckpt"
    del stored["trainer"]["model_registry"]
    for name in ("data_dir", "mirrors"):  # they were not given, and are not now
        del stored["data"]["init_args"][name]
    assert {name: found.settings[name] for name in ("model", "data", "checkpoints")} == {
        name: stored[name] for name in ("model", "data", "checkpoints")
    }
    for name in ("logger", "plugins", "profiler"):  # the user's, as the devices are; not given
        assert stored["trainer"].pop(name) is None
    assert found.settings["trainer"] == stored["trainer"] | {"default_root_dir": "logs"}


@pytest.mark.parametrize("command", ["validate", "test"])
def test_evaluating_needs_a_checkpoint(command):
    with pytest.raises(UserError, match=f"^{command} needs a checkpoint: a file, a run folder, `best`, "):
        request(command, "--model", "CNNClassifier")


@pytest.mark.parametrize("argument", ["--ckpt_path=last", "last"])
def test_a_checkpoint_is_given_with_and_without_its_flag(mlp_run, argument):
    assert request("test", argument).checkpoint == mlp_run / "checkpoints" / "last.ckpt"


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module of the user with a callback and a hook."""
    (tmp_path / "mine.py").write_text(
        "from lightning.pytorch import Callback\n"
        "class Mine(Callback):\n    def __init__(self, x: int = 0): self.x = x\n"
        "def hook(trainer, module): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("mine", None)


@pytest.mark.parametrize(
    "callbacks",
    [
        [{"class_path": "ModelCheckpoint", "init_args": {"dirpath": "/tmp/elsewhere"}}, {"class_path": "ModelSummary"}],
        [{"class_path": "mine.Mine", "init_args": {"x": 3}}, {"class_path": "ModelSummary"}],
        [{"class_path": "LambdaCallback", "init_args": {"on_fit_start": "mine.hook"}}],
    ],
    ids=["path", "class", "function"],
)
def test_a_refused_setting_of_a_list_is_accepted_as_the_message_advises(own_module, fit, callbacks):
    run = fit("fashion_mnist/mlp.yaml", "--trainer.callbacks", json.dumps(callbacks))
    recorded = config_of(run)["trainer"]["callbacks"]

    with pytest.raises(UserError) as caught:
        request("fit", run)

    _, _, advice = str(caught.value).partition("if ")[2].partition(", add ")
    assert advice == f"--config {run}/config.yaml"
    assert request("fit", run, *advice.split()).settings["trainer"]["callbacks"] == recorded
    assert request("test", run)  # needs no callbacks


def test_a_refused_setting_is_accepted_with_its_flag(fit, tmp_path):
    run = fit("fashion_mnist/mlp.yaml", "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", tmp_path / "a b")

    with pytest.raises(UserError) as caught:
        request("fit", run)

    _, _, advice = str(caught.value).partition(", add ")
    assert shlex.split(advice) == ["--trainer.logger.save_dir", f"{tmp_path}/a b"]
    settings = request("fit", run, *shlex.split(advice)).settings
    assert settings["trainer"]["logger"] == config_of(run)["trainer"]["logger"]


# Precedence


def test_a_config_overrides_the_defaults_and_flags_override_the_config(configs):
    config = configs / "fashion_mnist" / "shallow_cnn.yaml"

    assert yaml.safe_load((configs / "default.yaml").read_text())["trainer"]["max_epochs"] == 5
    assert request("fit", "--config", config).settings["trainer"]["max_epochs"] == 2
    assert request("fit", "--config", config, "--trainer.max_epochs", 1).settings["trainer"]["max_epochs"] == 1
    assert request("fit", "--trainer.max_epochs", 1, "--config", config).settings["trainer"]["max_epochs"] == 1


def test_a_second_config_overrides_the_first(configs):
    Path("mine.yaml").write_text("trainer: {max_epochs: 1}\ndata: {init_args: {val_size: 50, batch_size: 75}}\n")

    settings = request("fit", "--config", configs / "fashion_mnist" / "mlp.yaml", "--config", "mine.yaml").settings

    assert settings["trainer"]["max_epochs"] == 1
    assert settings["data"]["init_args"]["batch_size"] == 75
    assert settings["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.01


def test_a_config_overrides_the_checkpoint(mlp_run, configs):
    settings = request("fit", "--config", configs / "fashion_mnist" / "mlp.yaml", "--ckpt_path", mlp_run).settings

    assert settings["data"]["init_args"]["batch_size"] == 64
    assert settings["data"]["init_args"]["val_size"] == 50  # not in the config
    assert settings["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.01


def test_a_batch_size_that_would_not_be_used_is_refused(configs):
    config = ("--config", configs / "fashion_mnist" / "mlp.yaml")  # has a batch_size
    both = ("--data.global_batch_size", 32, "--data.batch_size", 16)

    assert request("fit", *config, "--data.global_batch_size", 32).settings["data"]["init_args"]["batch_size"] == 64
    with pytest.raises(
        UserError, match=r"^--data\.batch_size 16 would not be used, because data\.global_batch_size 32 "
    ):
        request("fit", *config, *both)
    Path("global.yaml").write_text("data: {init_args: {global_batch_size: 32}}\n")
    with pytest.raises(UserError, match=r"leave it out, or add --data\.global_batch_size null$"):
        request("fit", *config, "--config", "global.yaml", "--data.batch_size", 16)
    null = request("fit", *config, "--config", "global.yaml", "--data.batch_size", 16, "--data.global_batch_size=null")
    assert null.settings["data"]["init_args"]["global_batch_size"] is None


def test_flags_override_the_checkpoint(mlp_run, cli):
    flags = ("--trainer.max_epochs", 2, "--checkpoints.every_n_steps", 3, "--data.eval_batch_size", 25)

    assert cli("fit", "--ckpt_path", mlp_run, *flags).status == 0

    assert config_of(mlp_run)["checkpoints"]["every_n_steps"] == 3
    assert config_of(mlp_run)["data"]["init_args"]["eval_batch_size"] == 25
    assert learning_rate(mlp_run) == 0.125


def test_another_dataset_overrides_that_of_the_checkpoint(mlp_run, cli):
    outcome = cli("test", mlp_run, "--data", "MNISTDataModule")

    assert outcome.status == 0, outcome.err
    assert json.loads((mlp_run / "test_metrics.json").read_text())["data"]["dataset"] == "MNIST"


def test_evaluation_takes_the_precision_but_not_the_limits_of_the_training(fit, cli):
    flags = ("--trainer.precision", "64-true", "--trainer.limit_train_batches", 1, "--trainer.limit_test_batches", 0.5)
    run = fit("fashion_mnist/mlp.yaml", *flags)

    outcome = cli("test", run, "--data.eval_batch_size", 10)

    assert outcome.status == 0, outcome.err
    assert torch.load(run / "checkpoints/best.ckpt", weights_only=True)["state_dict"]["mean"].dtype == torch.float64
    assert request("test", run).settings["trainer"]["precision"] == "64-true"
    assert json.loads((run / "test_metrics.json").read_text())["images"] == 100


def test_the_settings_can_be_printed(cli, configs, tmp_path):
    outcome = cli("fit", "--config", configs / "mnist" / "cnn.yaml", "--print_config", "--model.std", "0.25")

    assert outcome.status == 0
    printed = yaml.safe_load(outcome.out)
    assert printed["model"]["init_args"]["std"] == 0.25
    assert printed["trainer"]["max_steps"] == -1  # defaults as well
    assert not list(tmp_path.iterdir())


# The environment


def test_variables_of_the_trainer_are_defaults(monkeypatch, configs):
    monkeypatch.setenv("PL_TRAINER_MAX_EPOCHS", "7")
    monkeypatch.setenv("PL_TRAINER_DEFAULT_ROOT_DIR", "runs")
    monkeypatch.setenv("PL_TRAINER_LIMIT_TRAIN_BATCHES", "0.5")
    classes = ("--model", "CNNClassifier", "--data", "MNISTDataModule")

    found = request("fit", *classes).settings["trainer"]  # instead of the values in default.yaml
    assert found == {"default_root_dir": "runs", "max_epochs": 7, "limit_train_batches": 0.5}
    assert request("fit", *classes, "--config", configs / "mnist/cnn.yaml").settings["trainer"]["max_epochs"] == 5
    assert request("fit", *classes, "--trainer.max_epochs", 2).settings["trainer"]["max_epochs"] == 2


def test_a_leading_tilde_is_the_home_folder_in_every_setting(monkeypatch, tmp_path, configs):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("trainer: ~/trainer.yaml\n")
    (tmp_path / "trainer.yaml").write_text("default_root_dir: ~/runs\n")
    flags = ("--data.data_dir", "~/data", "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "~/csv")

    settings = request("fit", "--config", configs / "mnist/cnn.yaml", "--config", "~/mine.yaml", *flags).settings

    assert settings["trainer"]["default_root_dir"] == str(tmp_path / "runs")
    assert settings["data"]["init_args"]["data_dir"] == str(tmp_path / "data")
    assert settings["trainer"]["logger"]["init_args"]["save_dir"] == str(tmp_path / "csv")
