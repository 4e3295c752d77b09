import numpy as np
import pytest

from lightning_cnn import history
from lightning_cnn.errors import UserError
from lightning_cnn.history import History, read_history, read_metric

HEADER = "epoch,step,lr-SGD,train/acc,train/loss,train/loss_step,val/acc,val/loss\n"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.csv"


def read(path, content, **options):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_history(path, **options)


def test_rows_of_an_epoch_are_merged_and_steps_ignored(path):
    rows = ",0,0.1,,,,,\n0,49,0.1,,,0.9,,\n0,99,,0.5,0.75,,,\n0,99,,,,,0.25,1.5\n1,199,,0.625,0.5,,0.375,1.25\n"
    found = read(path, HEADER + rows)

    assert found.epochs.tolist() == [0, 1]
    assert {name: values.tolist() for name, values in found.metrics.items()} == {
        "train/loss": [0.75, 0.5],
        "train/acc": [0.5, 0.625],
        "val/loss": [1.5, 1.25],
        "val/acc": [0.25, 0.375],
    }


def test_epochs_without_metrics_are_left_out_and_missing_metrics_nan(path):
    found = read(path, HEADER + "0,1,,0.5,1.0,,,\n2,3,,0.75,0.5,,0.625,\n")

    assert found.epochs.tolist() == [0, 2]
    np.testing.assert_array_equal(found.metrics["train/acc"], [0.5, 0.75])
    np.testing.assert_array_equal(found.metrics["val/acc"], [np.nan, 0.625])
    np.testing.assert_array_equal(found.metrics["val/loss"], [np.nan] * 2)


def test_the_last_value_of_an_epoch_wins_and_every_measurement_can_be_had(path):
    assert read(path, HEADER + "0,1,,,,,0.25,\n0,1,,,,,0.5,\n").metrics["val/acc"].tolist() == [0.5]
    assert read_metric(path, "val/acc") == [(0, 0.25), (0, 0.5)]


@pytest.mark.parametrize("row", ["1.0,1,,,,,0.25,", "1,1,,,,,0.25,\r\n", "\n\n1,1,,,,,2.5e-1,\n\n", "1,1,,,,, .25 ,"])
def test_numbers_and_lines_may_be_written_in_other_ways(path, row):
    found = read(path, HEADER + row)

    assert (found.epochs.tolist(), found.metrics["val/acc"].tolist()) == ([1], [0.25])


@pytest.mark.parametrize("content", ["", HEADER, HEADER + "0,49,0.1,,,0.9,,\n", HEADER + "2,9,,,,,,\n", "a,b\n1,2\n"])
def test_a_history_can_be_empty(path, content):
    assert len(read(path, content)) == 0


def test_without_a_file_there_are_no_epochs(path):
    assert len(read_history(path)) == 0
    assert read_metric(path, "val/acc") == []


def test_metrics_of_the_validation_and_the_monitored_one_are_read(path):
    names = [f"val/m{n}" for n in range(20)]
    row = ",".join(str(n) for n in range(20))
    found = read(path, f"epoch,{','.join(names)},mine,train/m19\n0,{row},7,8\n", monitor="val/m19").metrics

    assert [*found][:5] == ["train/loss", "train/acc", "train/m19", "train/m0", "train/m1"]
    assert (found["val/m19"], found["train/m19"], len(found)) == ([19], [8], 24)
    assert read_history(path, "mine").metrics["mine"] == [7]
    assert np.isnan(read(path, "epoch,val/acc\n0,1\n", monitor="val/f1").metrics["val/f1"]).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER + "0,1,,0.5,0.7O,,,\n", r"metrics\.csv is damaged near line 2 \(could not convert string .* b'0\.7O'"),
        (HEADER + "0,1,,0.5,1,,,\n,2,,0.5,1,,,\n", r"near line 3 \(could not convert string to float: b''"),
        (HEADER + "-1,1,,0.5,1,,,\n", r"near line 2 \(-1 is not the number of an epoch"),
        (HEADER + "0.5,1,,0.5,1,,,\n", r"0\.5 is not the number of an epoch"),
        (HEADER + "1e300,1,,0.5,1,,,\n", r"1e\+300 is not the number of an epoch"),
        (HEADER + "1000000,1,,0.5,1,,,\n", r"1e\+06 is not the number of an epoch"),
        (HEADER + "inf,1,,0.5,1,,,\n", r"inf is not the number of an epoch"),
        (HEADER + "nan,1,,0.5,1,,,\n", r"nan is not the number of an epoch"),
        (HEADER + "2,9,,,,\n", r"near line 2 \(6 values for 8 columns\)"),
        (HEADER + "2,9,,,,,,\n,,,,,,,,\n", r"near line 3 \(9 values for 8 columns\)"),
        ("step,val/acc\n1,0.5\n", r"it has no column epoch"),
        (b"epoch,val/acc\n0,\xff\n", r"metrics\.csv is damaged"),
        (b"epoch,val/acc,\xff\n", r"metrics\.csv is damaged near line 1"),
        (f"epoch,val/acc\n0,{'1' * 200}\n", r"a value has more than 100 characters"),
        (f"epoch,val/acc\n0,{'1' * 5_000_000}", r"a line has more than 131,072 bytes"),
        ("x" * 200_000, r"near line 1 \(a line has more than 131,072 bytes\)"),
    ],
)
def test_a_damaged_file_is_named(path, content, message):
    with pytest.raises(UserError, match=message) as caught:
        read(path, content)

    assert "\n" not in str(caught.value)


def test_rows_are_found_across_blocks(path, monkeypatch):
    monkeypatch.setattr(history, "_BLOCK", 100)
    rows = "".join(
        f"{epoch},{epoch},0.1,,,0.5,,\r\n" * 7 + f"{epoch},{epoch},,,,,{epoch / 64},\r\n" for epoch in range(50)
    )
    found = read(path, HEADER + rows)

    assert found.epochs.tolist() == [*range(50)]
    assert found.metrics["val/acc"].tolist() == [epoch / 64 for epoch in range(50)]
    with pytest.raises(UserError, match=r"near line 402 \(could not convert"):
        read(path, HEADER + rows + "50,9,x,,,,0.x,\n")


def test_limits_of_size_and_number(path, monkeypatch):
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match="has 1,099,511,627,776 bytes, more than 1,073,741,824; delete it"):
        read_history(path)
    monkeypatch.setattr(history, "MAX_VALUES", 3)
    with pytest.raises(UserError, match="more than 3 values, too many to be summed up"):
        read(path, HEADER + "0,1,,1,1,,,\n" * 2)


def test_one_late_epoch_is_one_epoch(path):
    found = read(path, "epoch,step,train/loss\n999998,1,0.5\n")

    assert (len(found), found.epochs.tolist(), found.metrics["train/loss"].tolist()) == (1, [999_998], [0.5])


def test_thinning_keeps_the_last_epoch_and_the_extremes():
    values = np.full(10_000, 0.5)
    values[[4_321, 7_778]] = 0.25, 0.75
    kept = History(np.arange(10_000), {"val/acc": values, "val/loss": np.full(10_000, np.nan)}).thinned(100)

    assert len(kept) == 102
    assert {0, 4_321, 7_778, 9_999} <= {*kept.epochs.tolist()}
    assert kept.metrics["val/acc"][kept.epochs == 4_321] == 0.25
    assert len(kept.thinned(200)) == 102
