from collections.abc import Callable, Sequence
from datetime import timedelta
from numbers import Number
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import Namespace
from lightning.pytorch.callbacks.timer import Interval

from lightning_cnn.config.parser import SettingsParser, plain_settings
from lightning_cnn.errors import UserError


def plain(kind: Any, value: object) -> object:
    parser = SettingsParser()
    parser.add_argument("--callbacks", type=kind)
    return plain_settings(parser, Namespace(callbacks=value))["callbacks"]


@pytest.mark.parametrize(
    ("kind", "value", "recorded"),
    [
        (dict[int, int], {0: 1, 4: 2}, {0: 1, 4: 2}),
        (str | dict[str, int], {"minutes": 1}, {"minutes": 1}),
        (Callable | str, "l1_unstructured", "l1_unstructured"),
        (list[Callable | str], ["l1_unstructured"], ["l1_unstructured"]),
        (tuple[float, float], (0.9, 0.999), [0.9, 0.999]),
        (Path, Path("a/b"), "a/b"),
        (Number | Sequence, 10.5, 10.5),
        (Number | Sequence, [-10, 10], [-10, 10]),
        (timedelta, timedelta(hours=1), "1:00:00"),
        (Interval, Interval.step, "step"),
        (Callable, len, "builtins.len"),
        (set[type], {int, float, bool}, ["builtins.bool", "builtins.float", "builtins.int"]),
        (set[type] | None, frozenset({int}), ["builtins.int"]),
    ],
    ids=str,
)
def test_settings_are_recorded_as_plain_values(kind, value, recorded):
    found = plain(kind, value)

    assert found == recorded
    assert type(found) is type(recorded)


@pytest.mark.parametrize(("default", "recorded"), [("./mlruns", "mlruns"), ("s3://a/b", "s3://a/b")])
def test_a_default_folder_is_recorded_as_it_is_read_from_a_config(default, recorded):
    parser = SettingsParser()
    parser.add_argument("--save_dir", type=str, default=default)

    assert plain_settings(parser, parser.get_defaults()) == {"save_dir": recorded}


def test_a_value_that_no_config_can_have_is_refused():
    with pytest.raises(UserError) as caught:
        plain(list[Any], [1, object()])

    assert str(caught.value) == (
        "--callbacks object: the run cannot record it, so it could not be resumed; give plain values, or a class or a "
        "function of a module"
    )
