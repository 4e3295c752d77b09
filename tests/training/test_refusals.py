import shutil
import socket
import warnings
from pathlib import Path

import pytest
import yaml

from lightning_cnn import checkpoint
from lightning_cnn.data import MNISTDataModule
from lightning_cnn.errors import UserError
from lightning_cnn.training.refusals import require_same_images

PLAIN = ("--data.val_size", 50, "--plots.enabled", "false", "--dashboard.enabled", "false")


@pytest.mark.parametrize(
    ("config", "flags", "message"),
    [
        ("mnist/cnn.yaml", ("--trainer.max_epochs", 0), "--trainer.max_epochs 0 trains nothing;"),
        ("mnist/cnn.yaml", ("--trainer.max_steps", 0), "--trainer.max_steps 0 trains nothing;"),
        ("mnist/cnn.yaml", ("--trainer.limit_train_batches", 0), "--trainer.limit_train_batches 0 trains nothing;"),
        (
            "mnist/cnn.yaml",
            ("--test", "true", "--trainer.enable_checkpointing", "false"),
            "--test true needs the best weights, which are not saved with --trainer.enable_checkpointing false;",
        ),
        (
            "mnist/cnn.yaml",
            ("--test", "true", "--trainer.limit_val_batches", 0),
            "--test true needs the best weights, which are not saved with --trainer.limit_val_batches 0;",
        ),
        (
            "mnist/cnn.yaml",
            ("--test", "true", "--trainer.check_val_every_n_epoch", 3, "--trainer.max_epochs", 2),
            "--test true needs the best weights, but --trainer.check_val_every_n_epoch 3 validates none of 2 epochs; ",
        ),
        ("mnist/fast.yaml", ("--data.batch_size", 1), "--data.batch_size 1: batch normalisation needs several images"),
        (
            "mnist/cnn.yaml",
            ("--trainer.callbacks+=BatchSizeFinder", "--data.global_batch_size", 32),
            "batch_size 2 would not be used, because --data.global_batch_size 32 replaces it;",
        ),
        (
            "mnist/cnn.yaml",
            ("--trainer.callbacks+=BackboneFinetuning",),
            "BackboneFinetuning finetunes the module `backbone` of the model, which CNNClassifier has not;",
        ),
        ("mnist/fast.yaml", ("--trainer.callbacks+=BatchSizeFinder",), "BatchSizeFinder changes the number of steps"),
    ],
)
def test_useless_settings_are_refused_before_training(cli, tiny_data, configs, tmp_path, config, flags, message):
    outcome = cli("fit", "--config", configs / config, *PLAIN, *flags)

    assert outcome.status == 2
    assert f"lightning-cnn: error: {message}" in outcome.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("config", "flags"),
    [
        ("mnist/cnn.yaml", ("--data.batch_size", 1, "--trainer.limit_train_batches", 2)),  # no normalisation
        ("mnist/fast.yaml", ("--data.batch_size", 2, "--trainer.limit_train_batches", 2)),
        (
            "mnist/cnn.yaml",
            ("--trainer.callbacks+=BatchSizeFinder", "--trainer.callbacks.max_trials", 1),
        ),  # no schedule
    ],
)
def test_similar_settings_train(fit, config, flags):
    assert (fit(config, *flags) / "checkpoints" / "best.ckpt").is_file()


def test_a_learning_rate_is_found_once(fit, cli):
    flags = ("--trainer.callbacks+=LearningRateFinder", "--trainer.callbacks.num_training_steps", 20)
    run = fit("fashion_mnist/mlp.yaml", *flags, "--data.batch_size", 5, "--trainer.callbacks.min_lr", 0.001)
    before = checkpoint.read(run / "checkpoints" / "last.ckpt")
    assert cli("fit", run, "--trainer.max_epochs", 2).status == 0
    after = checkpoint.read(run / "checkpoints" / "last.ckpt")

    assert [before["global_step"], after["global_step"]] == [30, 60]
    rates = [content["optimizer_states"][0]["param_groups"][0]["lr"] for content in (before, after)]
    assert rates[0] == rates[1] > 0.01  # that of the config


@pytest.mark.parametrize(
    "flags",
    [
        ("--trainer.strategy", "SingleDeviceStrategy"),
        ("--trainer.strategy", "lightning.pytorch.strategies.SingleDeviceStrategy"),
        ("--trainer.accelerator", "CPUAccelerator"),
        ("--trainer.strategy", "SingleDeviceStrategy", "--trainer.strategy", "auto"),
        ("--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val/acc"),
        ("--trainer.logger", "lightning.pytorch.loggers.TensorBoardLogger", "--trainer.logger.save_dir", "mine"),
        ("--trainer.max_time", "1:00:00:00", "--trainer.val_check_interval", "1:00:00:00"),
        ("--trainer.max_time", "{minutes: 10}"),
        ("--trainer.log_every_n_steps", 0),
    ],
    ids=lambda flags: " ".join(map(str, flags)),
)
def test_settings_are_accepted_in_every_documented_form(fit, flags):
    assert (fit("mnist/cnn.yaml", "--trainer.limit_train_batches", 1, *flags) / "checkpoints" / "last.ckpt").is_file()


def test_classes_of_fabric_come_back_from_a_checkpoint(cli, fit):
    run = fit("mnist/cnn.yaml", "--trainer.limit_train_batches", 1, "--trainer.plugins", "TorchCheckpointIO")

    assert cli("fit", run, "--trainer.max_epochs", 2).status == 0


def test_barebones_trains_and_writes_nothing(cli, tiny_data, configs, tmp_path):
    flags = ("--data.val_size", 50, "--trainer.max_epochs", 1, "--trainer.precision", "32-true")
    outcome = cli("fit", "--config", configs / "mnist/fast.yaml", *flags, "--trainer.barebones", "true")

    assert outcome.status == 0, outcome.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("strategy ddp_spawn", "--trainer.strategy with the start method spawn is for notebooks and scripts: "),
        ("strategy ddp_fork --trainer.devices 2", "--trainer.strategy with the start method fork is for notebooks"),
        ("strategy DDPStrategy --trainer.strategy.start_method fork", "--trainer.strategy with the start method fork"),
        (
            "plugins DeepSpeedPrecision --trainer.plugins.precision 32-true",
            "--trainer.plugins DeepSpeedPrecision needs ",
        ),
        ("plugins LSFEnvironment", "LSFEnvironment: Did not find the environment variable `LSB_DJOB_RANKFILE`"),
        ("plugins XLACheckpointIO", "--trainer.plugins XLACheckpointIO needs the package torch_xla, which is not"),
        ("accelerator XLAAccelerator", "--trainer.accelerator XLAAccelerator needs the package torch_xla, which is"),
        ("profiler PyTorchProfiler --trainer.profiler.sort_by_key name", "PyTorchProfiler: Found sort_by_key: name."),
    ],
)
def test_classes_that_cannot_be_used_say_why(cli, tiny_data, configs, tmp_path, flags, message):
    outcome = cli("fit", "--config", configs / "mnist/cnn.yaml", *PLAIN, *f"--trainer.{flags}".split())

    assert outcome.status == 2
    assert f"lightning-cnn: error: {message}" in outcome.err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_float16_on_a_cpu_is_recorded_as_bfloat16(fit):
    run = fit("mnist/cnn.yaml", "--trainer.accelerator", "cpu", "--trainer.precision", "16-mixed")

    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"] == "bf16-mixed"


def test_without_validation_the_last_weights_are_offered(cli, tiny_data, configs):
    flags = (*PLAIN, "--trainer.max_epochs", 1, "--trainer.limit_val_batches", 0)
    outcome = cli("fit", "--config", configs / "mnist/cnn.yaml", *flags)

    assert "there is no best.ckpt, because nothing was validated" in outcome.out
    assert "last.ckpt\n" in outcome.out


@pytest.mark.parametrize(
    ("variables", "flags", "message"),
    [
        ({"LOCAL_RANK": "1"}, (), "LOCAL_RANK=1 says that this is one of several processes, but it is the only one;"),
        ({"NODE_RANK": "1"}, (), "NODE_RANK=1 says that this is one of several processes"),
        ({"SLURM_PROCID": "1"}, (), "SLURM_PROCID=1 says that this is one of several processes"),
        ({}, ("--trainer.num_nodes", 2), "--trainer.num_nodes 2: nothing has started this process together with"),
        ({"LOCAL_RANK": "0"}, ("--trainer.devices", 2), "LOCAL_RANK=0 says that something has started all processes"),
        ({"MASTER_PORT": "tcp"}, ("--trainer.strategy", "ddp"), "MASTER_PORT must be a port, 1 to 65535, got 'tcp';"),
    ],
)
def test_processes_that_nothing_has_started_are_not_waited_for(
    cli, tiny_data, configs, tmp_path, monkeypatch, variables, flags, message
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    outcome = cli("fit", "--config", configs / "mnist/cnn.yaml", *PLAIN, "--trainer.precision", "32-true", *flags)

    assert outcome.status == 2
    assert message in outcome.err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_a_port_in_use_is_named(cli, tiny_data, configs, monkeypatch):
    with socket.create_server(("", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setenv("MASTER_PORT", str(port))
        outcome = cli("fit", "--config", configs / "mnist/cnn.yaml", *PLAIN, "--trainer.strategy", "ddp")

    assert outcome.status == 2
    assert outcome.err.splitlines()[-1].startswith(f"lightning-cnn: error: MASTER_PORT {port} cannot be used (address")


@pytest.mark.parametrize("callback", ["EarlyStopping", "ModelCheckpoint"])
def test_a_validation_metric_that_is_not_logged_is_found_before_training(cli, tiny_data, configs, tmp_path, callback):
    flags = (*PLAIN, "--trainer.callbacks", callback, "--trainer.callbacks.monitor", "val/los")
    outcome = cli("fit", "--config", configs / "mnist/cnn.yaml", "--trainer.precision", "32-true", *flags)

    assert outcome.status == 2
    assert f"--trainer.callbacks.monitor val/los: {callback} monitors a metric that is not logged" in outcome.err
    assert outcome.err.endswith("did you mean 'val/loss'?\n")
    assert "epoch 1" not in outcome.out
    assert not list(tmp_path.iterdir())


def test_the_flag_that_sets_a_limit_is_named(cli, tiny_data, configs):
    flags = ("--trainer.overfit_batches", 0.001, "--trainer.limit_val_batches", 0.2)
    outcome = cli("fit", "--config", configs / "mnist/cnn.yaml", "--trainer.precision", "32-true", *PLAIN, *flags)

    assert outcome.status == 2
    assert "lightning-cnn: error: --trainer.overfit_batches 0.001: You requested" in outcome.err


def test_a_callback_may_tolerate_a_missing_metric(fit):
    flags = ("--trainer.callbacks.monitor", "val/los", "--trainer.callbacks.strict", "false")

    assert (fit("mnist/cnn.yaml", "--trainer.callbacks", "EarlyStopping", *flags) / "metrics.csv").is_file()


def test_a_new_run_does_not_begin_where_another_has_failed(fit, cli, configs):
    Path("own").mkdir()
    callback = ("--trainer.callbacks", "OnExceptionCheckpoint", "--trainer.callbacks.dirpath", "own")
    run = fit("fashion_mnist/mlp.yaml", *callback)
    shutil.copy(run / "checkpoints" / "last.ckpt", "own/on_exception.ckpt")

    refused = cli("fit", "--config", configs / "fashion_mnist/mlp.yaml", *PLAIN, *callback)

    assert refused.status == 2
    assert "OnExceptionCheckpoint would begin the new run with own/on_exception.ckpt, which is there" in refused.err
    assert [path.name for path in run.parent.iterdir()] == ["version_0"]


def test_pruned_weights_are_tested_also_where_the_masks_are_kept(fit):
    pruning = ("--trainer.callbacks", "ModelPruning", "--trainer.callbacks.pruning_fn", "l1_unstructured")
    kept = ("--trainer.callbacks.make_pruning_permanent", "false")

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Unable to serialize instance")
        run = fit("fashion_mnist/mlp.yaml", *pruning, *kept, "--test", "true")

    assert (run / "test_metrics.json").is_file()


@pytest.mark.parametrize(("name", "trained", "given"), [("num_classes", 3, 10), ("image_size", (24, 40), 28)])
def test_data_of_another_kind_than_the_checkpoint_is_refused(name, trained, given):
    settings = {"num_classes": 10, "in_channels": 1, "image_size": 28}

    def require(changed):
        content = {"hyper_parameters": settings | changed, checkpoint.KEY: {"framing": None}}
        require_same_images(Path("best.ckpt"), content, MNISTDataModule())

    require({})
    with pytest.raises(UserError) as caught:
        require({name: trained})

    assert str(caught.value).startswith(f"best.ckpt was trained with {name} {trained}, but MNIST has {given}; ")
