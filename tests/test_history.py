import numpy as np
import pytest

from lightning_cnn.errors import UserError
from lightning_cnn.history import read_history

HEADER = "epoch,step,lr-SGD,train/acc,train/loss,train/loss_step,val/acc,val/loss\n"


def read(tmp_path, content):
    path = tmp_path / "metrics.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_history(path)


def test_rows_of_an_epoch_come_together_and_steps_are_left_out(tmp_path):
    rows = ",0,0.1,,,,,\n0,49,0.1,,,0.9,,\n0,99,,0.5,0.75,,,\n0,99,,,,,0.25,1.5\n1,199,,0.625,0.5,,0.375,1.25\n"

    assert {curve: values.tolist() for curve, values in read(tmp_path, HEADER + rows).items()} == {
        "train_loss": [0.75, 0.5],
        "train_acc": [0.5, 0.625],
        "val_loss": [1.5, 1.25],
        "val_acc": [0.25, 0.375],
    }


def test_what_was_not_measured_is_nan(tmp_path):
    history = read(tmp_path, HEADER + "0,1,,0.5,1.0,,,\n2,3,,0.75,0.5,,0.625,\n")

    np.testing.assert_array_equal(history["train_acc"], [0.5, np.nan, 0.75])
    np.testing.assert_array_equal(history["val_acc"], [np.nan, np.nan, 0.625])
    np.testing.assert_array_equal(history["val_loss"], [np.nan] * 3)


def test_what_comes_later_in_the_file_counts(tmp_path):
    assert read(tmp_path, HEADER + "0,1,,,,,0.25,\n0,1,,,,,0.5,\n")["val_acc"].tolist() == [0.5]


def test_epochs_may_be_written_as_floats(tmp_path):
    assert read(tmp_path, HEADER + "1.0,1,,,,,0.25,\n")["val_acc"].tolist()[1:] == [0.25]


@pytest.mark.parametrize("content", ["", HEADER, HEADER + "0,49,0.1,,,0.9,,\n", HEADER + "2,9,,,,\n", "a,b\n1,2\n"])
def test_there_may_be_no_history(tmp_path, content):
    assert read(tmp_path, content) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER + "0,1,,0.5,0.7O,,,\n", r"metrics\.csv is damaged near line 2 \(could not convert string .* '0\.7O'"),
        (HEADER + "0,1,,0.5,1,,,\n,2,,0.5,1,,,\n", r"near line 3 \('' is not the number of an epoch"),
        (HEADER + "-1,1,,0.5,1,,,\n", r"'-1' is not the number of an epoch"),
        (HEADER + "0.5,1,,0.5,1,,,\n", r"'0\.5' is not the number of an epoch"),
        (HEADER + "1e300,1,,0.5,1,,,\n", r"'1e300' is not the number of an epoch"),
        (HEADER + "inf,1,,0.5,1,,,\n", r"'inf' is not the number of an epoch"),
        ("step,val/acc\n1,0.5\n", r"None is not the number of an epoch"),
        (b"epoch,val/acc\n0,\xff\n", r"metrics\.csv is damaged"),
        (f"epoch,val/acc\n0,{'1' * 200_000}\n", r"field larger than field limit"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, content)
