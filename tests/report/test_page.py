import json
import re
from html.parser import HTMLParser

import pytest
from runs import CONFIG, DATA, METRICS, PREDICTIONS, TEST, results_of, rows, text, write_run

from lightning_cnn.report import page as pages
from lightning_cnn.report.page import run_page
from lightning_cnn.report.summary import read_summary
from lightning_cnn.run import Run

pytestmark = pytest.mark.usefixtures("no_figures")

EVIL = "</pre><script>alert('x')</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"


def page_of(folder, **pieces):
    return run_page(read_summary(Run(write_run(folder, **pieces))), "a/version_0")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return page_of(tmp_path_factory.mktemp("whole") / "run")


class Structure(HTMLParser):
    """The elements of a page; asserts that they are closed in the right order."""

    def __init__(self, markup):
        super().__init__()
        self.open, self.elements = [], []
        self.feed(markup)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "source", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_key_metrics_are_those_of_the_files(page):
    header = text(page[: page.index("<main>")])

    assert "ShallowCNN on Fashion-MNIST" in header
    assert "a/version_0" in header
    assert "21 November 2026, 18:31 UTC · 3 epochs · seed 3 · bf16-mixed" in header
    assert "test accuracy 62.50 % of 8 images" in header
    assert "test loss 0.6875" in header
    assert "validation accuracy of the best epoch 93.75 % epoch 2 of 3" in header
    assert "expected calibration error 29.69 %" in header
    assert "parameters 402,986" in header
    assert "sample" not in header and "part of the data" not in header


def test_the_tables_are_those_of_the_files(page):
    assert rows(page, "training")[1:] == [
        ["1", "0.5000", "75.00 %", "0.4375", "87.50 %"],
        ["★ 2", "0.4375", "81.25 %", "0.2500", "93.75 %"],
        ["3", "0.2500", "90.62 %", "0.3750", "90.62 %"],
    ]
    assert rows(page, "test")[1:] == [
        ["T-shirt/top", "4", "50.00 %", "66.67 %", "57.14 %", "Bag (2 times)"],
        ["Trouser", "2", "100.00 %", "100.00 %", "100.00 %", "no other class"],
        ["Bag", "2", "50.00 %", "33.33 %", "40.00 %", "T-shirt/top (1 time)"],
    ]
    assert rows(page, "mistakes") == [
        ["Image", "True class", "Predicted class", "Confidence", "Loss"],
        ["4", "Bag", "T-shirt/top", "50.00 %", "4.5000"],
        ["2", "T-shirt/top", "Bag", "87.50 %", "2.5000"],
        ["1", "T-shirt/top", "Bag", "50.00 %", "1.5000"],
    ]
    environment = dict(rows(page, "environment"))
    assert environment["Processor"] == "AMD EPYC"
    assert environment["Threads"] == "2"
    assert environment["Git revision of lightning_cnn"] == "not recorded"
    assert environment["torch"] == "2.15.0"


def test_data_settings_and_weights_are_named(page):
    content = text(page)

    assert content.count("on Fashion-MNIST: gz files in data/FashionMNIST/raw") == 2
    assert "Tested weights: logs/a/checkpoints/best.ckpt" in content
    assert "lr: 0.03" in re.search(r"<details>.*</details>", page, flags=re.DOTALL)[0]
    assert "3 of 8 images were predicted as another class" in content


def test_commands_name_the_folder_as_a_shell_reads_it(tmp_path):
    folder = tmp_path / "a run"
    content = text(page_of(folder))

    assert f"lightning-cnn test --ckpt_path '{folder}'" in content
    assert f"lightning-cnn fit --ckpt_path '{folder}' --trainer.max_epochs 8" in content


def test_metrics_of_all_stages_and_the_monitored_one_are_shown(tmp_path):
    config = CONFIG + "checkpoints:\n  monitor: val/f1\n  mode: max\n"
    metrics = "epoch,step,val/acc,val/f1,train/loss\n0,1,0.5,0.25,1.5\n1,2,0.25,0.5,0.5\n"
    page = page_of(tmp_path / "run", config=config, metrics=metrics, test={**TEST, "test/f1": 0.125})

    assert rows(page, "metrics") == [
        ["Metric", "Training", "Validation", "Test"],
        ["accuracy", "–", "25.00 %", "62.50 %"],
        ["loss", "0.5000", "–", "0.6875"],
        ["f1 (monitored)", "–", "0.5000", "0.1250"],
    ]
    assert rows(page, "training")[0][-1] == "val/f1"
    assert rows(page, "training")[2] == ["★ 2", "0.5000", "–", "–", "25.00 %", "0.5000"]
    assert "best epoch is the one with the highest val/f1, the monitored metric (mode: max): epoch 2" in text(page)
    assert "test f1 0.1250 the monitored metric" in text(page)


def test_the_lowest_value_can_be_the_best(page, tmp_path):
    assert "the highest val/acc, the monitored metric (mode: max): epoch 2 of 3. Metrics" in text(page)
    config = CONFIG + "checkpoints:\n  monitor: val/mine\n  mode: min\n"
    assert "the lowest val/mine, the monitored metric (mode: min), which was not logged. Metrics of" in text(
        page_of(tmp_path / "run", config=config)
    )


def test_the_loss_is_named(tmp_path):
    config = CONFIG.replace(
        "    optimizer:", "    loss:\n      class_path: lightning_cnn.classifiers.FocalLoss\n    optimizer:"
    )

    assert "test loss 0.6875 mean FocalLoss" in text(page_of(tmp_path / "run", config=config))


def test_text_that_no_file_can_have_is_written(tmp_path, monkeypatch):
    data = '{"dataset": "\\ud800", "origin": "x", "sample": false}'

    assert "\ud800" in page_of(tmp_path / "run", data=data, config='seed_everything: "\\udcff"')


def test_an_interrupted_run_has_the_command_to_resume_it(tmp_path):
    content = text(page_of(tmp_path / "run", config=CONFIG.replace("max_epochs: 3", "max_epochs: 9")))

    assert f"Resume lightning-cnn fit --ckpt_path {tmp_path / 'run'} All settings" in content


def test_every_figure_is_in_the_page_and_has_a_description(page):
    images = [attributes for tag, attributes in Structure(page).elements if tag == "img"]

    assert [image["alt"].partition(" ")[0] for image in images] == [
        *("Curves", "Confusion", "Accuracy", "The", "The", "Training"),
    ]
    assert all(image["src"].startswith("data:image/") for image in images)
    assert "The worst mistakes, with true and predicted class; 3 of all 8 test images are wrong." in page


def test_the_page_is_valid_and_self_contained(page):
    elements = Structure(page).elements
    attributes = [attributes for _, attributes in elements]
    ids = [found["id"] for found in attributes if "id" in found]

    assert page.startswith("<!DOCTYPE html>")
    assert ("html", {"lang": "en"}) in elements
    assert not {"script", "iframe", "object"} & {tag for tag, _ in elements}
    assert len(ids) == len(set(ids))
    assert {found["href"] for tag, found in elements if tag == "a"} <= {f"#{name}" for name in ids}
    assert {found["aria-labelledby"] for found in attributes if "aria-labelledby" in found} <= set(ids)
    assert all("scope" in found for tag, found in elements if tag == "th")
    assert "default-src 'none'" in page
    assert not re.search(r"(src|href|url\()=?[\"']?(https?:|//)", page)


def test_the_same_files_give_the_same_page(tmp_path):
    assert page_of(tmp_path / "run") == page_of(tmp_path / "run")


def test_what_looks_wrong_is_explained(page, tmp_path):
    smoothed = text(
        page_of(tmp_path / "run", config=CONFIG.replace("init_args:", "init_args:\n    label_smoothing: 0.1", 1))
    )

    assert "it alone includes label smoothing, of 0.1." in smoothed
    assert "label smoothing" not in text(page)
    assert "Mean confidence is 79.69 % and accuracy 62.50 %: on average the network is overconfident." in text(page)


def test_missing_files_are_named(tmp_path):
    pieces = dict.fromkeys(("metrics", "data", "environment", "test", "predictions"))
    page = page_of(tmp_path / "run", **pieces, figures=())
    content = text(page)

    Structure(page)
    assert "<img" not in page
    assert "test accuracy and loss not tested yet" in content
    assert "validation accuracy not logged" in content
    assert "parameters –" in content
    assert f"Not tested yet. Test the run, then write the report again: lightning-cnn test --ckpt_path {tmp_path / 'run'}" in content  # fmt: skip  # noqa: E501
    assert "metrics.csv is missing" in content
    assert "Trained on not recorded" in content
    assert "plots/samples.png is missing; fit --plots.enabled true draws it" in content
    assert "environment.json is missing" in content
    assert 'id="mistakes"' not in page and "#mistakes" not in page


def test_a_run_without_checkpoints_and_settings(tmp_path):
    folder = write_run(tmp_path / "run", config=None, test=None, predictions=None)
    for path in folder.glob("checkpoints/*"):
        path.unlink()
    content = text(run_page(read_summary(Run(folder)), "x"))

    assert "There is no best.ckpt to be tested" in content
    assert "There is no last.ckpt: this run cannot be resumed" in content
    assert "config.yaml is missing" in content
    assert "lightning-cnn fit" not in content


def test_a_test_without_its_predictions(tmp_path):
    content = text(page_of(tmp_path / "run", predictions=None))

    assert "test accuracy 62.50 %" in content
    assert "Without test_predictions.csv nothing is known about single classes" in content
    assert "calibration" not in content


def test_a_perfect_test(tmp_path):
    perfect = [(true, true, share, loss) for true, _, share, loss in PREDICTIONS]
    content = text(page_of(tmp_path / "run", predictions=perfect))

    assert "None: 8 images were all predicted correctly." in content


def test_the_page_says_if_only_the_sample_was_used(tmp_path):
    sample = {**DATA, "sample": True}
    content = text(page_of(tmp_path / "run", data=sample, test={**TEST, "data": sample}))

    assert "Only the small sample of Fashion-MNIST that ships with the package was used" in content
    assert "Fashion-MNIST, the small sample that ships with the package: gz files" in content


def test_the_page_says_if_only_a_part_of_the_data_was_used(tmp_path):
    config = CONFIG.replace("max_epochs: 3", "limit_train_batches: 200\n  overfit_batches: 0.5")
    content = text(page_of(tmp_path / "run", config=config))

    assert "Only a part of the data was used: limit_train_batches 200, overfit_batches 0.5." in content


def test_values_that_were_not_logged_are_dashes(tmp_path):
    page = page_of(tmp_path / "run", metrics="epoch,step,train/loss,val/acc\n0,1,0.5,\n1,2,nan,0.5\n")

    assert rows(page, "training")[1:] == [["1", "0.5000", "–", "–", "–"], ["★ 2", "–", "–", "–", "50.00 %"]]


def test_of_many_epochs_some_are_listed_with_the_best_and_the_last(tmp_path):
    accuracy = dict.fromkeys(range(1003), 0.5) | {620: 0.75}
    metrics = "epoch,step,val/acc\n" + "".join(f"{epoch},{epoch},{value}\n" for epoch, value in accuracy.items())
    page = page_of(tmp_path / "run", metrics=metrics)

    shown = [row[0] for row in rows(page, "training")[1:]]
    assert len(shown) <= pages.MAX_EPOCH_ROWS + 2
    assert shown[0] == "11" and "★ 621" in shown and shown[-1] == "1003"
    assert f"{len(shown)} of 1,003 epochs, the best and the last among them" in text(page)


def test_only_the_worst_mistakes_are_listed(tmp_path):
    many = [("a", "b", 0.5, number) for number in range(50)]
    page = page_of(tmp_path / "run", test=results_of(many), predictions=many)

    listed = rows(page, "mistakes")[1:]
    assert len(listed) == pages.MISTAKES
    assert listed[0][0] == "49"


def test_text_from_files_is_escaped(tmp_path):
    quoted = EVIL.replace('"', '""')
    pieces = {
        "config": json.dumps({"seed_everything": EVIL, "model": {"class_path": EVIL}}),  # JSON is YAML as well
        "data": {"dataset": EVIL, "origin": EVIL, "sample": False},
        "environment": {"processor": EVIL, EVIL: EVIL, "versions": {EVIL: EVIL}},
        "test": {
            **TEST,
            "checkpoint": EVIL,
            "class_names": [EVIL, "b"],
            "images": 1,
            "data": {**DATA, "dataset": EVIL},
        },
        "predictions": f'index,true,predicted,confidence,loss\n0,"{quoted}",b,0.5,1\n',
    }
    run = read_summary(Run(write_run(tmp_path / "run", **pieces)))
    page = run_page(run, EVIL)

    elements = Structure(page).elements
    assert not {"script", "iframe"} & {tag for tag, _ in elements}
    assert all(found["src"].startswith("data:") for tag, found in elements if tag == "img")
    assert not any(name.startswith("on") for _, attributes in elements for name in attributes)
    shown = re.sub(r"base64,[^\"]*|<style>.*?</style>", "", page.replace(str(tmp_path), ""), flags=re.DOTALL)
    assert "49" not in shown.replace("0.49", "")
    assert text(page).count("alert('x')") > 10


def test_many_classes_have_a_table_but_no_confusion_matrix(tmp_path):
    many = [(f"class {n}", f"class {(n + 1) % 60}", 0.5, 1.0) for n in range(60)]
    page = page_of(tmp_path / "run", test=results_of(many), predictions=many)

    assert "There are 60 classes: too many for a figure" in text(page)
    assert len(rows(page, "test")) == 61


@pytest.mark.parametrize(
    ("metrics", "epochs"), [(METRICS, 3), (METRICS.replace("1,199,,0.8125,0.4375,,0.9375,0.25\n", ""), 2)]
)
def test_gaps_in_the_history_are_drawn(tmp_path, metrics, epochs):
    page = page_of(tmp_path / "run", metrics=metrics)

    assert f"Curves of loss and accuracy over {epochs} epochs" in page
    assert f"of {max(epochs, 3)}." in text(page)


def test_the_page_says_if_earlier_weights_were_tested(tmp_path):
    folder = write_run(tmp_path / "run")
    note = "The run was trained further after this test"
    assert note not in text(run_page(read_summary(Run(folder)), "run"))

    (folder / "checkpoints" / "best.ckpt").write_text("other weights")

    assert note in text(run_page(read_summary(Run(folder)), "run"))


def test_a_run_with_a_schedule_of_fixed_length_is_not_trained_further(tmp_path):
    def page(path):
        scheduler = f"    scheduler:\n      class_path: torch.optim.lr_scheduler.{path}\n"
        config = CONFIG.replace("    optimizer:\n", f"{scheduler}    optimizer:\n")
        return text(run_page(read_summary(Run(write_run(tmp_path / path, config=config))), "run"))

    assert "Train further" in page("StepLR")
    assert "Train further" not in page("OneCycleLR")


def test_a_run_without_metrics_has_no_command_to_resume_it(tmp_path):
    page = text(run_page(read_summary(Run(write_run(tmp_path / "run", metrics=None))), "run"))

    assert "Resume" not in page
    assert "Train further" not in page
