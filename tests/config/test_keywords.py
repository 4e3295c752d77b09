from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_cnn.classifiers import MLPClassifier
from lightning_cnn.config.flags import CommandLine, Flag
from lightning_cnn.config.keywords import read_keywords
from lightning_cnn.config.request import read_request
from lightning_cnn.config.settings import Tree
from lightning_cnn.errors import UserError
from lightning_cnn.training.options import schema

SCHEMA = schema("fit")


def given(**keywords: object) -> dict[str, object]:
    """The values by the names of their flags."""
    return {flag.name: flag.value for flag in read_keywords(keywords, SCHEMA)}


def settings(**keywords: object) -> Tree:
    line = CommandLine(configs=["mnist/cnn"], flags=read_keywords(keywords, SCHEMA))
    return read_request("fit", line, SCHEMA).settings


def test_names_are_those_of_flags_or_of_arguments():
    keywords = {"max_epochs": 3, "batch_size": 128, "lr": 0.01, "model.std": 0.5, "val_size": 9, "root": "a", "seed": 4}

    assert given(**keywords, test=True, optimizer="SGD", image_size=32) == {
        "trainer.max_epochs": 3,
        "data.batch_size": 128,
        "model.optimizer.lr": 0.01,
        "model.std": 0.5,
        "data.val_size": 9,
        "data.root": "a",
        "seed_everything": 4,
        "test": True,
        "model.optimizer": "SGD",
        "data.image_size": 32,
    }


def test_a_mapping_stands_for_the_settings_in_it():
    assert given(trainer={"max_epochs": 3}, model={"optimizer": {"lr": 0.1}}, data={}) == {
        "trainer.max_epochs": 3,
        "model.optimizer.lr": 0.1,
        "data": {},
    }
    adam = {"class_path": "Adam", "init_args": {"lr": 0.1}}
    assert given(optimizer=adam) == {"model.optimizer": adam}


def test_values_become_plain():
    assert given(lr=np.float32(0.5), batch_size=np.int64(3), max_epochs=torch.tensor(2), data_dir=Path("a")) == {
        "model.optimizer.lr": 0.5,
        "data.batch_size": 3,
        "trainer.max_epochs": 2,
        "data.data_dir": "a",
    }
    assert given(optimizer=torch.optim.AdamW, model=MLPClassifier) == {
        "model.optimizer": "torch.optim.AdamW",
        "model": "lightning_cnn.classifiers.MLPClassifier",
    }
    assert given(callbacks=({"class_path": "Timer"},)) == {"trainer.callbacks": [{"class_path": "Timer"}]}


def test_they_go_the_way_of_flags():
    found = settings(max_epochs=3, lr=0.25, batch_size=128, scheduler=None, precision="32-true")

    assert (found["trainer"]["max_epochs"], found["trainer"]["precision"]) == (3, "32-true")
    assert found["data"]["init_args"]["batch_size"] == 128
    arguments = found["model"]["init_args"]
    assert arguments["optimizer"] == {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.25}}
    assert arguments["scheduler"] is None
    assert found["model"]["class_path"].endswith("CNNClassifier")  # of the config


def test_text_is_not_parsed():
    assert settings(data_dir="null")["data"]["init_args"]["data_dir"] == "null"
    assert read_keywords({"accelerator": "1e-3"}, SCHEMA) == [Flag("trainer.accelerator", "1e-3", is_parsed=True)]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"max_epoch": 3}, "there is no setting 'max_epoch'; did you mean 'max_epochs'?"),
        ({"learnig_rate": 3}, "there is no setting 'learnig_rate'; did you mean 'learning_rate'?"),
        ({"zzz": 3}, "there is no setting 'zzz'"),
        ({"lr": 1, "model.optimizer.lr": 2}, "model.optimizer.lr is given twice; give it once"),
        (
            {"optimizer": Fraction(1, 2)},
            "model.optimizer: a setting is a plain value or a class, which a run can record, and no Fraction; name the "
            "class, as in {'class_path': 'Fraction', 'init_args': {…}}, or use Lightning's Trainer",
        ),
    ],
)
def test_wrong_keywords_are_refused_in_one_line(keywords, message):
    with pytest.raises(UserError) as raised:
        read_keywords(keywords, SCHEMA)

    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"model.optimizer.lrr": 3}, "--model.optimizer.lrr 3: Adam has no setting 'lrr'; did you mean 'lr'?"),
        ({"trainer.max_epoch": 3}, "there is no option --trainer.max_epoch; did you mean '--trainer.max_epochs'?"),
        ({"num_classes": 3}, "--model.num_classes 3: it follows from the data; leave it out"),
        ({"max_epochs": None, "network": "Nothing"}, "--model.network 'Nothing': CNNClassifier has its own network"),
    ],
)
def test_what_the_schema_refuses_is_named_as_a_flag(keywords, message):
    with pytest.raises(UserError) as raised:
        settings(**keywords)

    assert str(raised.value).startswith(message)
