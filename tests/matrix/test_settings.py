"""Every setting of Lightning that `fit` accepts comes back: through `config.yaml`, and through a checkpoint."""

from itertools import zip_longest
from pathlib import Path

import pytest
import torch
from matrix.members import CLASSES, FLAGS, members, missing

from lightning_cnn.checkpoint import KEY, archive
from lightning_cnn.config import yaml
from lightning_cnn.config.trust import trusted_settings
from lightning_cnn.training import trainer_values
from lightning_cnn.training.parsing import settings_of
from lightning_cnn.training.resume import RUN_OPTIONS

MODEL_AND_DATA = ("--model", "MLPClassifier", "--data", "FashionMNISTDataModule")
#: Values that the user has to give again when he resumes: functions and classes of neither Lightning nor torch.optim.
NAMED = {"builtins.len", "torch.amp.GradScaler", "torch.bfloat16"}


def trainers() -> list[dict]:
    """Return settings of the Trainer in which each member occurs, in few trees: parsing one takes a quarter second."""
    values: dict[str, list] = {}
    for member in members():
        ((name, value),) = member.settings.items()
        values.setdefault(name, []).append(value)
    for name in ("callbacks", "logger", "plugins"):  # which take several
        classes = [value for value in values[name] if isinstance(value, list | dict) and value]
        values[name] = [[item for value in classes for item in (value if isinstance(value, list) else [value])]]
    rows = zip_longest(*values.values(), fillvalue=None)
    return [{n: v for n, v in zip(values, row, strict=True) if v is not None} for row in rows]


def test_every_member_has_an_entry():
    assert missing() == []


def test_there_are_members_of_every_kind():
    assert {member.kind for member in members()} == {*CLASSES, "flag"}
    assert {member.name for member in members() if member.kind == "flag"} == FLAGS.keys()


@pytest.mark.parametrize("trainer", trainers())
def test_all_settings_come_back(trainer, monkeypatch):
    monkeypatch.setattr(trainer_values, "_PACKAGES", {})  # of packages that are not installed, too
    settings = settings_of(["fit", *MODEL_AND_DATA, "--config", yaml.dump({"trainer": trainer})])
    record = {name: value for name, value in settings.items() if name not in RUN_OPTIONS}
    config, checkpoint = Path("config.yaml"), Path("last.ckpt")
    config.write_text(yaml.dump(record))
    torch.save({KEY: {"config": record}}, checkpoint)

    stored = trusted_settings(archive.load(checkpoint.read_bytes())[KEY]["config"], NAMED)

    assert settings_of(["fit", "--config", str(config)]) == settings
    places = {name: settings["trainer"][name] for name in ("default_root_dir", "model_registry")}  # never taken
    stored["trainer"] |= places
    assert settings_of(["fit", "--config", yaml.dump(stored)]) == settings
