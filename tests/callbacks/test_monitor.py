import math

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_cnn.callbacks.monitor import Monitor, monitor_of


@pytest.mark.parametrize(
    ("mode", "best", "value", "better"),
    [
        ("max", 0.5, 0.6, True),
        ("max", 0.5, 0.5, False),
        ("min", 0.5, 0.4, True),
        ("min", 0.5, 0.6, False),
        ("min", None, 7.0, True),
        ("max", None, math.nan, False),
        ("max", 0.5, math.nan, False),
    ],
)
def test_the_mode_decides_what_is_better(mode, best, value, better):
    assert Monitor("val/error", mode, best).is_better(value) is better


def test_the_first_checkpoint_callback_with_a_monitor_is_used(trainer, tmp_path):
    callbacks = [ModelCheckpoint(tmp_path), ModelCheckpoint(tmp_path, monitor="val/loss", mode="min")]

    assert monitor_of(trainer(callbacks=callbacks, enable_checkpointing=True)) == ("val/loss", "min", None)
    assert monitor_of(trainer()) is None
