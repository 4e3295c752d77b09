import io
import json
import re
import sys

import pytest

from lightning_cnn.config.yaml import read_config
from lightning_cnn.errors import UserError
from lightning_cnn.sweep import check as sweep_check
from lightning_cnn.sweep.space import build_space
from lightning_cnn.sweep.trial_process import command
from lightning_cnn.training import parsing
from lightning_cnn.training.parsing import SettingsCLI, settings_of


@pytest.fixture
def fit(configs):
    return ["fit", "--config", str(configs / "mnist" / "cnn.yaml")]


def test_the_settings_of_the_first_command_are_returned(fit, tmp_path):
    settings = settings_of([*fit, "--trainer.max_epochs=3"], [*fit, "--trainer.max_epochs=4"])

    assert settings["trainer"]["max_epochs"] == 3
    assert settings["trainer"]["default_root_dir"] == "logs"
    assert settings["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.001
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        (
            "--model.optimizr.lr=0.1",
            "there is no option --model.optimizr.lr; did you mean '--model.optimizer.lr'?",
        ),
        ("--data.augmnt.crop_size=3", "did you mean '--data.augment.crop_size'?"),
        ("--model.optimizer.momentum=0.1", "momentum"),  # Adam has none
        ("--data.batch_size=many", "batch_size"),
        ("--data.batch_size=-32", "--data.batch_size must be at least 1, got -32"),
        ("--model.optimizer.lr=-1.0", "--model.optimizer: Invalid learning rate: -1.0"),
        ("--trainer.max_epochs=0", "--trainer.max_epochs 0 trains nothing"),
        ("--help", "give it to `lightning-cnn fit`"),
    ],
)
def test_invalid_commands_are_refused(fit, capsys, flag, reason):
    with pytest.raises(UserError, match=re.escape(reason)):
        settings_of(fit, [*fit, flag])


def test_all_commands_share_one_parser(fit, monkeypatch):
    built = []
    monkeypatch.setattr(parsing, "_PARSERS", {})
    monkeypatch.setattr(
        SettingsCLI, "init_parser", lambda *a, o=SettingsCLI.init_parser, **k: built.append(1) or o(*a, **k)
    )

    settings_of(fit, [*fit, "--model.optimizer.lr=0.1"], [*fit, "--model.optimizer=SGD"])

    assert len(built) == 1


def test_every_shipped_space_is_valid(fit, configs):
    spaces = sorted((configs / "sweeps").glob("*.yaml"))
    assert spaces
    for path in spaces:
        examples = build_space(read_config(path), str(path)).examples()
        settings_of(*(command(configs / "mnist" / "cnn.yaml", [], settings) for settings in examples))


def test_the_process_prints_settings_or_the_error(fit, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps([fit])))
    assert sweep_check.main() == 0
    assert json.loads(capsys.readouterr().out)["trainer"]["max_epochs"] == 5

    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps([[*fit, "--nonsense=1"]])))
    assert sweep_check.main() == 2
    assert capsys.readouterr() == ("", "there is no option --nonsense\n")
