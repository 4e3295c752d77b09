import pytest
import yaml


@pytest.mark.parametrize("given", ["00:00:10:00", "{minutes: 10}", "{seconds: 599.5}"])
def test_durations_are_recorded_in_one_form_and_read_back(cli, fit, given):
    flags = ("--trainer.limit_train_batches", 1, "--trainer.max_time", given, "--trainer.val_check_interval", given)
    run = fit("mnist/cnn.yaml", *flags)

    trainer = yaml.safe_load((run / "config.yaml").read_text())["trainer"]
    assert trainer["max_time"] == trainer["val_check_interval"] == "00:00:10:00"
    assert cli("fit", run, "--trainer.max_epochs", 2).status == 0


def test_a_missing_package_is_named(cli, tiny_data, configs, tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_cnn.training.trainer_values.find_spec", lambda name: None)

    outcome = cli("fit", "--config", configs / "mnist/cnn.yaml", "--trainer.callbacks+=RichProgressBar")

    assert outcome.status == 2
    assert "--trainer.callbacks RichProgressBar needs the package rich, which is not installed" in outcome.err
    assert not list(tmp_path.iterdir())
