import json
import re
from pathlib import Path

import pytest
from runs import CONFIG, DATA, METRICS, TEST, rows, text, write_run

from lightning_cnn.report.comparison import comparison_page, differing_settings, labels
from lightning_cnn.report.summary import read_summary
from lightning_cnn.run import Run

pytestmark = pytest.mark.usefixtures("no_figures")

HEADINGS = ["Run", "Network", "Dataset", "Monitored", "Test accuracy", "Validation accuracy", "Test loss",
            "Calibration error", "Parameters", "Epochs", "Seed", "Precision"]  # fmt: skip


@pytest.fixture
def compare(tmp_path):
    """Write a run from each set of pieces, and return the page that compares them."""

    def page(**pieces_of):
        runs = {label: read_summary(Run(write_run(tmp_path / label, **pieces))) for label, pieces in pieces_of.items()}
        files = {label: run.folder / "report.html" for label, run in runs.items()}
        return comparison_page(runs, files, tmp_path / "comparison.html")

    return page


def having(accuracy, **more):
    return {"test": {**TEST, "test/acc": accuracy, **more}}


UNTESTED = {"test": None, "predictions": None}


def column(page, title):
    """The cells of a column, by run."""
    heading, *body = rows(page, "metrics")
    return {row[0]: row[heading.index(title)] for row in body}


def notes(page):
    return text(page[page.index("<header>") : page.index("<main>")])


def test_the_table_has_the_metrics_of_the_files(compare):
    page = compare(one={}, two=having(0.5, **{"test/loss": 0.5}))

    same = ["29.69 %", "402,986", "3", "3", "bf16-mixed"]
    assert rows(page, "metrics") == [
        HEADINGS,
        ["one", "ShallowCNN", "Fashion-MNIST", "val/acc (max)", "★ 62.50 %", "93.75 %", "0.6875", *same],
        ["two", "ShallowCNN", "Fashion-MNIST", "val/acc (max)", "50.00 %", "93.75 %", "★ 0.5000", *same],
    ]


def test_runs_are_sorted_by_test_accuracy_or_else_validation_accuracy(compare):
    unlogged = {**UNTESTED, "metrics": None}
    page = compare(low=having(0.25), unlogged=unlogged, untested=UNTESTED, high=having(0.96875))

    assert column(page, "Test accuracy") == {
        "high": "★ 96.88 %",
        "untested": "not tested",
        "low": "25.00 %",
        "unlogged": "not tested",
    }
    assert list(column(page, "Run")) == ["high", "untested", "low", "unlogged"]


def test_other_metrics_have_columns_wherever_a_run_has_them(compare):
    f1 = {"config": CONFIG + "checkpoints:\n  monitor: val/f1\n  mode: max\n"}
    page = compare(
        a={**having(0.75, **{"test/f1": 0.5}), **f1},
        b={**having(0.5, **{"test/f1": 0.75, "test/auroc": 0.25}), **f1},
        c=having(0.625),
    )

    assert rows(page, "metrics")[0][6:10] == ["Test loss", "Test f1", "Test auroc", "Calibration error"]
    assert column(page, "Test f1") == {"a": "0.5000", "c": "–", "b": "★ 0.7500"}
    assert column(page, "Test auroc") == {"a": "–", "c": "–", "b": "0.2500"}
    assert column(page, "Monitored") == {"a": "val/f1 (max)", "c": "val/acc (max)", "b": "val/f1 (max)"}
    assert "Sorted by test accuracy, or by validation accuracy where" in text(page)


def test_runs_that_monitor_one_metric_are_sorted_by_it(compare):
    error = {"config": CONFIG + "checkpoints:\n  monitor: val/error\n  mode: min\n"}
    metrics = "epoch,step,val/acc,val/error\n0,1,0.5,0.25\n"
    page = compare(
        a={**having(0.75, **{"test/error": 0.5}), **error},
        b={**having(0.5, **{"test/error": 0.125}), **error},
        c={**UNTESTED, **error, "metrics": metrics},
    )

    assert column(page, "Test error") == {"b": "★ 0.1250", "c": "–", "a": "0.5000"}
    assert column(page, "Validation error") == {"b": "–", "c": "0.2500", "a": "–"}
    assert "Sorted by test error, or by validation error where" in text(page)


def test_ties_are_all_marked_unless_all_runs_are_equal(compare):
    page = compare(a=having(0.75), b=having(0.75), c=having(0.5))

    assert column(page, "Test accuracy") == {"a": "★ 75.00 %", "b": "★ 75.00 %", "c": "50.00 %"}
    assert "★" not in "".join(column(page, "Validation accuracy").values())


def test_the_best_is_marked_among_runs_on_the_same_data_only(compare):
    mnist = {**DATA, "dataset": "MNIST"}
    page = compare(
        a=having(0.75),
        b=having(0.5),
        digits={"data": mnist, **having(0.96875, data=mnist)},
        sample={"data": {**DATA, "sample": True}, **having(0.875, data={**DATA, "sample": True})},
    )

    assert column(page, "Test accuracy") == {"digits": "96.88 %", "sample": "87.50 %", "a": "★ 75.00 %", "b": "50.00 %"}
    assert column(page, "Dataset") == {
        **{"digits": "MNIST", "sample": "Fashion-MNIST (sample)"},
        **{"a": "Fashion-MNIST", "b": "Fashion-MNIST"},
    }
    assert "evaluated on different data (Fashion-MNIST; Fashion-MNIST, the small sample; MNIST)" in notes(page)
    assert "not on the whole dataset: sample." in notes(page)


def test_a_run_that_was_tested_on_other_data_says_so(compare):
    page = compare(a={}, b=having(0.5, data={**DATA, "dataset": "MNIST"}))

    assert column(page, "Dataset")["b"] == "Fashion-MNIST, tested on MNIST"


def test_comparable_runs_have_no_notes(compare):
    assert notes(compare(a={}, b=having(0.5))) == "Comparison 2 runs, side by side"


def test_notes_name_runs_that_cannot_be_compared(compare):
    short = CONFIG.replace("max_epochs: 3", "limit_train_batches: 10")
    page = compare(a={"metrics": None, "config": short}, b={**UNTESTED, "config": None}, c=having(0.5))

    assert "Not tested: b." in notes(page)
    assert "No epoch was logged, so there are no curves: a." in notes(page)
    assert "Settings were not recorded: b." in notes(page)
    assert "Trained or validated on a part of the data only: a." in notes(page)
    assert "numbers of test images" not in notes(page)


def test_a_note_names_different_numbers_of_test_images(compare):
    some = [("Bag", "Bag", 0.5, 1)]

    assert "The numbers of test images differ: 1, 8." in notes(
        compare(a={}, b={**having(1.0, images=1), "predictions": some})
    )


def test_settings_are_shown_where_they_differ(compare):
    page = compare(
        a={"config": CONFIG.replace("lr: 0.03", "lr: 0.1")},
        b={**having(0.75), "config": CONFIG.replace("seed_everything: 3\n", "")},
    )

    assert rows(page, "settings") == [
        ["Setting", "b", "a"],
        ["model.init_args.optimizer.init_args.lr", "0.03", "0.1"],
        ["seed_everything", "–", "3"],
    ]
    assert column(page, "Seed") == {"b": "–", "a": "3"}


def test_the_page_says_if_settings_are_equal_or_curves_are_missing(compare):
    page = compare(a={"metrics": None}, b={"metrics": None})

    assert "None: the runs have the same settings." in text(page)
    assert "No run has logged an epoch." in text(page)
    assert "<img" not in page


def test_the_curves_are_in_the_page(compare):
    page = compare(a={}, b={"metrics": METRICS.replace("0.9375", "0.96875")})

    (alt,) = re.findall(r'<img src="data:image/svg\+xml;base64,[^"]*" width="\d+" height="\d+" alt="([^"]*)">', page)
    assert alt == "Curves of loss and accuracy of 2 runs over each other."


def test_links_lead_from_the_page_to_those_of_the_runs(tmp_path):
    label = "50% of a#b?/version_0"
    runs = {name: read_summary(Run(write_run(tmp_path / name))) for name in (label, "b")}
    files = {name: run.folder / "report.html" for name, run in runs.items()}
    page = comparison_page(runs, files, tmp_path / "pages" / "x.html")

    assert 'href="../50%25%20of%20a%23b%3F/version_0/report.html"' in page
    assert 'href="../b/report.html"' in page


def test_text_from_files_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>\"'"
    runs = {}
    for n in range(2):
        config = json.dumps({"seed_everything": evil, evil: n, "trainer": {"precision": evil}})  # JSON is YAML as well
        test = {**TEST, "data": {**DATA, "dataset": evil}}
        runs[f"{evil}{n}"] = read_summary(Run(write_run(tmp_path / str(n), config=config, test=test)))
    page = comparison_page(runs, {label: run.folder / "report.html" for label, run in runs.items()}, tmp_path / "x")

    assert "<script" not in page
    assert text(page).count("<script>alert(1)") >= 4


def test_only_differing_settings_are_left_with_none_where_missing():
    configs = [
        {"seed": 0, "same": [1, 2], "model": {"class_path": "CNN", "lr": 0.1}},
        {"seed": 1, "same": [1, 2], "model": {"class_path": "CNN", "momentum": 0.9}},
        {"seed": 0, "same": [1, 2], "model": {"class_path": "CNN", "lr": 0.1}},
    ]

    assert differing_settings(configs) == [
        ("seed", ["0", "1", "0"]),
        ("model.lr", ["0.1", None, "0.1"]),
        ("model.momentum", [None, "0.9", None]),
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-8, "1e-08"), ("cnn: 3", "cnn: 3"), (True, "true"), ({}, "{}"), ([{"a": ["ä"]}], '[{"a": ["ä"]}]')],
)
def test_values_of_settings_are_in_one_line(value, text):
    assert differing_settings([{"x": {"y": value}}, {}]) == [("x.y", [text, None])]


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["logs/a/version_0"], ["a/version_0"]),
        (["logs/a/version_0", "logs/b/version_0"], ["a/version_0", "b/version_0"]),
        (["x/a/version_0", "y/a/version_0", "y/b/version_0"],
         ["x/a/version_0", "y/a/version_0", "y/b/version_0"]),
        (["/version_0", "/a/version_0", "/b/a/version_0"], ["/version_0", "/a/version_0", "b/a/version_0"]),
        (["/b/a/v", "/a/v"], ["b/a/v", "/a/v"]),
    ],
)  # fmt: skip
def test_labels_are_short_and_unique(folders, expected):
    assert labels([Path(folder) for folder in folders]) == expected


def test_the_label_of_the_current_folder_is_its_name(tmp_path):
    assert labels([Path()]) == [f"{tmp_path.parent.name}/{tmp_path.name}"]
