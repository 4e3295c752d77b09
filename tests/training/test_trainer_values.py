import pytest
import yaml

from lightning_cnn.errors import UserError
from lightning_cnn.training.trainer_values import require_valid


@pytest.mark.parametrize("given", ["00:00:10:00", "{minutes: 10}", "{seconds: 599.5}"])
def test_durations_are_recorded_in_one_form_and_read_back(cli, fit, given):
    flags = ("--trainer.limit_train_batches", 1, "--trainer.max_time", given, "--trainer.val_check_interval", given)
    run = fit("mnist/cnn.yaml", *flags)

    trainer = yaml.safe_load((run / "config.yaml").read_text())["trainer"]
    assert trainer["max_time"] == trainer["val_check_interval"] == "00:00:10:00"
    assert cli("fit", run, "--trainer.max_epochs", 2).status == 0


@pytest.mark.parametrize("given", [{"hours": float("nan")}, {"hours": "1"}, {"hour": 1}, {"days": 1e12}, {}, 90])
def test_what_is_no_duration_is_refused(given):
    with pytest.raises(UserError, match="expected a duration greater than 0"):
        require_valid({"max_time": given})


def test_a_missing_package_is_named(cli, tiny_data, configs, tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_cnn.training.trainer_values.find_spec", lambda name: None)

    outcome = cli("fit", "--config", configs / "mnist/cnn.yaml", "--trainer.logger=WandbLogger")

    assert outcome.status == 2
    assert "--trainer.logger WandbLogger needs the package wandb, which is not installed" in outcome.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("devices", "most"),
    [(1000, 4), (10**9, 4), ("100000", 4), ([*range(99)], 4), (5, 4)],
)
def test_more_devices_than_the_machine_has_are_refused(devices, most, monkeypatch):
    monkeypatch.setattr("lightning_cnn.training.trainer_values.available_cores", lambda: 2)

    with pytest.raises(
        UserError, match=rf"^--trainer\.devices .*: give at most {most} on the 2 cores of this machine, or"
    ):
        require_valid({"devices": devices, "accelerator": "cpu"})


@pytest.mark.parametrize("devices", [4, "auto", -1, "0,1", None, [0, 1]])
def test_other_devices_are_left_to_lightning(devices):
    require_valid({"devices": devices, "accelerator": "cpu"})


@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps"])
def test_a_gpu_that_is_not_there_is_named(accelerator, monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)

    with pytest.raises(UserError, match=f"^--trainer.accelerator {accelerator}: PyTorch finds none on this machine; "):
        require_valid({"accelerator": accelerator})


def test_the_devices_of_a_cluster_are_not_compared_with_this_machine(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "64")

    require_valid({"devices": 64, "accelerator": "cpu"})
    with pytest.raises(UserError, match=r"^--trainer\.devices 1000000000: give at most 1024, or auto$"):
        require_valid({"devices": 10**9, "accelerator": "gpu"})


def test_several_nodes_need_a_launcher(cli, tiny_data, configs):
    flags = ("--trainer.num_nodes", 2, "--trainer.accelerator", "cpu", "--trainer.devices", 1)

    outcome = cli("fit", "--config", configs / "mnist/cnn.yaml", *flags)

    assert outcome.status == 2
    assert "--trainer.num_nodes 2: nothing has started this process together with those of other nodes" in outcome.err
