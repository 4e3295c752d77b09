import base64
import dataclasses
from functools import partial
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from runs import PREDICTIONS, png, write_run

from lightning_cnn.history import History
from lightning_cnn.plots import figures as plots
from lightning_cnn.report import figures
from lightning_cnn.report.summary import RunSummary, read_summary
from lightning_cnn.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunSummary:
    return read_summary(Run(write_run(tmp_path_factory.mktemp("whole") / "run")))


@pytest.fixture
def drawn(monkeypatch):
    """The arguments of each plot function, which returns an empty figure to save time."""
    calls = {}

    def record(name, *args, **kwargs):
        calls[name] = args or kwargs
        return Figure(figsize=(1, 1))

    for name in ("history", "stacked_history", "confusion_matrix", "calibration", "comparison"):
        monkeypatch.setattr(plots, name, partial(record, name))
    return calls


def content(image):
    kind, _, code = image.source.removeprefix("data:").partition(";base64,")
    return kind, base64.b64decode(code)


def test_the_history_is_that_of_the_file(run, drawn):
    image = figures.history(run)

    assert {name: values.tolist() for name, values in drawn["history"].items()} == {
        "epochs": [1, 2, 3],
        "train_loss": [0.5, 0.4375, 0.25],
        "train_acc": [0.75, 0.8125, 0.90625],
        "val_loss": [0.4375, 0.25, 0.375],
        "val_acc": [0.875, 0.9375, 0.90625],
    }
    assert drawn["stacked_history"][0].keys() == drawn["history"].keys()
    assert image.alt == "Curves of loss and accuracy over 3 epochs; best epoch 2, validation accuracy 93.75 %."


def test_the_confusion_matrix_is_that_of_the_predictions(run, drawn):
    image = figures.confusion_matrix(run.test.predictions)

    counts, names, _ = drawn["confusion_matrix"]
    assert counts.tolist() == [[2, 0, 2], [0, 2, 0], [1, 0, 1]]
    assert names == ["T-shirt/top", "Trouser", "Bag"]
    assert image.alt == "Confusion matrix of 3 classes: most often T-shirt/top was predicted as Bag, 2 times."


def test_a_confusion_matrix_without_mistakes_is_described_as_such(tmp_path, drawn):
    perfect = [(true, true, share, loss) for true, _, share, loss in PREDICTIONS]
    run = read_summary(Run(write_run(tmp_path / "run", predictions=perfect)))

    assert figures.confusion_matrix(run.test.predictions).alt == "Confusion matrix of 3 classes: no mistakes."


def test_the_calibration_is_that_of_the_predictions(run, drawn):
    image = figures.calibration(run.test.predictions)

    assert drawn["calibration"] == (run.test.predictions.calibration,)
    assert image.alt == "Accuracy over confidence in 15 bins: expected calibration error 29.69 %."


def test_the_comparison_leaves_out_runs_without_curves(run, drawn):
    empty = dataclasses.replace(run, history=History(np.array([], dtype=int), {}))
    image = figures.comparison({"a": run, "none": empty, "b": run})

    assert list(drawn["comparison"][0]) == ["a", "b"]
    assert image.alt == "Curves of loss and accuracy of 2 runs over each other."
    assert figures.comparison({"none": empty}) is None
    assert figures.history(empty) is None


def test_runs_without_validation_can_be_compared(tmp_path):
    run = read_summary(Run(write_run(tmp_path / "run", metrics="epoch,step,train/loss\n0,1,0.5\n")))

    assert figures.comparison({"a": run, "b": run}).alt == "Curves of loss and accuracy of 2 runs over each other."


def test_figures_of_many_epochs_show_some_of_them(tmp_path, drawn):
    metrics = "epoch,step,val/acc\n" + "".join(f"{epoch},1,{0.9 if epoch == 7001 else 0.5}\n" for epoch in range(9000))
    run = read_summary(Run(write_run(tmp_path / "run", metrics=metrics)))
    figures.history(run)
    figures.comparison({f"{n}": run for n in range(100)})

    shown = drawn["history"]["epochs"]
    assert len(shown) <= 2005 and {1, 7002, 9000} <= {*shown.tolist()}
    assert all(50 <= len(curves["epochs"]) <= 55 for curves in drawn["comparison"][0].values())


@pytest.fixture(scope="module")
def history(run):
    return figures.history(run)


def test_figures_are_svg_of_the_stated_size(history):
    kind, svg = content(history)

    assert kind == "image/svg+xml"
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert float(root.get("width").removesuffix("pt")) * 96 / 72 == pytest.approx(history.width, abs=0.5)
    assert float(root.get("height").removesuffix("pt")) * 96 / 72 == pytest.approx(history.height, abs=0.5)


def test_the_same_run_gives_the_same_figure(run, history):
    assert figures.history(run) == history
    assert b"<dc:date>" not in content(history)[1]


@pytest.mark.parametrize("name", ["</style><script>alert(1)</script>", "--><b>", "a & b", "$x^{2$", "\ud7ff\x00\x1b"])
def test_figures_with_any_class_names_are_valid_xml(run, name):
    predictions = dataclasses.replace(run.test.predictions, class_names=[name, "b", "c"])

    ElementTree.fromstring(content(figures.confusion_matrix(predictions))[1])


def of_classes(run, n):
    names = [f"class {number}" for number in range(n)]
    classes = np.arange(n)
    return dataclasses.replace(
        run.test.predictions,
        class_names=names,
        index=np.arange(n * n),
        losses=np.full(n * n, 0.5),
        targets=np.repeat(classes, n),
        predicted=np.tile(classes, n),
        confidence=np.full(n * n, 0.5),
    )


def test_a_confusion_matrix_of_many_classes_is_small_enough_for_a_page(run):
    image = figures.confusion_matrix(of_classes(run, 26))

    assert len(image.source) < 600_000


def test_a_large_figure_is_png(run, history, monkeypatch):
    monkeypatch.setattr(figures, "_MAX_SVG", 1000)
    image = figures.history(run)

    kind, data = content(image)
    assert kind == "image/png"
    assert data.startswith(b"\x89PNG")
    assert (image.width, image.height, image.alt) == (history.width, history.height, history.alt)


def test_too_many_classes_have_no_confusion_matrix(run):
    assert figures.confusion_matrix(of_classes(run, figures.MAX_CLASSES + 1)) is None


def test_a_png_is_embedded_unchanged():
    image = figures.embed_png(png(30, 20), "What it shows.")

    assert content(image) == ("image/png", png(30, 20))
    assert (image.width, image.height, image.alt) == (30, 20, "What it shows.")
