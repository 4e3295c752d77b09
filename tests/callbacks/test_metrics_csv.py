import csv
from pathlib import Path

import pytest

from lightning_cnn.callbacks.metrics_csv import MetricsCSV
from lightning_cnn.errors import UserError
from lightning_cnn.run import Run


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def logged(folder: Path, *rows: tuple[int, dict[str, float]], first_step: int | None = None) -> MetricsCSV:
    logger = MetricsCSV(folder, first_step)
    for step, metrics in rows:
        logger.log_metrics(metrics, step)
    return logger


def test_metrics_of_a_step_share_a_row(tmp_path):
    logger = logged(
        tmp_path,
        (4, {"epoch": 0, "train/loss_step": 2.5}),
        (9, {"epoch": 0, "val/loss": 2.0}),
        (9, {"epoch": 0, "train/loss": 2.25, "val/acc": 0.5}),
    )

    logger.finalize("success")

    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "epoch,step,train/loss,train/loss_step,val/acc,val/loss",
        "0,4,,2.5,,",
        "0,9,2.25,,0.5,2.0",
    ]


def test_lightning_does_not_write_the_file_after_each_metric(tmp_path):
    logger = logged(tmp_path, (1, {"epoch": 0, "val/acc": 0.5}))
    logger.save()  # by Lightning, after each `log_metrics`
    assert list(tmp_path.iterdir()) == []

    logger.write()  # by `Checkpoints`

    assert rows(tmp_path) == [{"epoch": "0", "step": "1", "val/acc": "0.5"}]


def test_without_metrics_there_is_no_file(tmp_path):
    MetricsCSV(tmp_path).finalize("success")

    assert list(tmp_path.iterdir()) == []


def test_a_resumed_run_keeps_its_rows(tmp_path):
    logged(tmp_path, (9, {"epoch": 0, "val/acc": 0.5})).finalize("success")

    logged(tmp_path, (19, {"epoch": 1, "val/acc": 0.6}), first_step=10).finalize("success")

    assert [(row["epoch"], row["step"], row["val/acc"]) for row in rows(tmp_path)] == [
        ("0", "9", "0.5"),
        ("1", "19", "0.6"),
    ]


def test_a_run_resumed_from_an_earlier_step_drops_later_rows(tmp_path):
    logged(
        tmp_path,
        (9, {"epoch": 0, "val/acc": 0.5}),
        (14, {"epoch": 1, "train/loss_step": 1.0}),
        (19, {"epoch": 1, "val/acc": 0.6}),
        (29, {"epoch": 2, "val/acc": 0.7}),
    ).finalize("success")

    again = (10, {"epoch": 1, "train/loss_step": 0.9}), (19, {"epoch": 1, "val/acc": 0.8})
    logged(tmp_path, *again, first_step=10).finalize("success")

    assert [(row["step"], row["train/loss_step"], row["val/acc"]) for row in rows(tmp_path)] == [
        ("9", "", "0.5"),
        ("10", "0.9", ""),
        ("19", "", "0.8"),
    ]


def test_a_new_metric_gets_a_column_in_all_rows(tmp_path):
    logged(tmp_path, (9, {"epoch": 0, "val/acc": 0.5})).finalize("success")

    logged(tmp_path, (19, {"epoch": 1, "lr-SGD": 0.1}), first_step=10).finalize("success")

    assert rows(tmp_path) == [
        {"epoch": "0", "step": "9", "val/acc": "0.5", "lr-SGD": ""},
        {"epoch": "1", "step": "19", "val/acc": "", "lr-SGD": "0.1"},
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epoch,val/acc\n0,0.5\n", r"near line 2 \('step'\)"),
        ("epoch,step\n0,x\n", "near line 2 .*invalid literal"),
        ("epoch,step,a\n0,1\n", "not as many values as there are columns"),
        ("epoch,step\n0,1,2\n", "not as many values as there are columns"),
        ("epoch,step\n0," + "9" * 200_000 + "\n", "a line has more than 131,072 characters"),
        (b"epoch,step\n0,1\n\xff,2\n", "near line"),
    ],
)
def test_a_damaged_file_is_refused_when_a_run_is_resumed(tmp_path, content, message):
    (tmp_path / "metrics.csv").write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(UserError, match=rf"metrics\.csv is damaged.*{message}"):
        MetricsCSV(tmp_path, first_step=5)


def test_a_file_too_large_to_resume_with_is_refused(tmp_path):
    with (tmp_path / "metrics.csv").open("wb") as file:
        file.truncate(2**40)

    with pytest.raises(UserError, match="more than 67,108,864, to resume with; move it elsewhere"):
        MetricsCSV(tmp_path, first_step=5)


def test_names_of_metrics_are_no_formulas_and_are_read_back(tmp_path):
    logged(tmp_path, (9, {"epoch": 0, "=1+1": 0.5, "'a": 1.0})).finalize("success")
    logged(tmp_path, (19, {"epoch": 1, "=1+1": -0.25}), first_step=10).finalize("success")

    assert rows(tmp_path) == [
        {"epoch": "0", "step": "9", "'=1+1": "0.5", "''a": "1.0"},
        {"epoch": "1", "step": "19", "'=1+1": "-0.25", "''a": ""},
    ]
    assert Run(tmp_path).read_metric("=1+1") == [(0, 0.5), (1, -0.25)]


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    logged(tmp_path, (9, {"epoch": 0, "val/acc": 0.5})).finalize("success")
    before = (tmp_path / "metrics.csv").read_bytes()
    logger = logged(tmp_path, (19, {"epoch": 1, "val/acc": 0.6}))

    def interrupted(self, rows):
        raise KeyboardInterrupt

    monkeypatch.setattr(csv.DictWriter, "writerows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        logger.finalize("success")

    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
    assert (tmp_path / "metrics.csv").read_bytes() == before
