import json
import math
import os
from datetime import UTC, datetime

import pytest
from runs import CONFIG, DATA, ENVIRONMENT, METRICS, PREDICTIONS, TEST, write_run

from lightning_cnn.errors import UserError
from lightning_cnn.report.summary import Data, setting
from lightning_cnn.report.summary import read_summary as read
from lightning_cnn.run import Run


def read_summary(folder):
    return read(Run(folder))


def test_a_whole_run_is_read(tmp_path):
    run = read_summary(write_run(tmp_path / "run"))

    assert (run.network, run.dataset, run.evaluated_on) == ("ShallowCNN", "Fashion-MNIST", ("Fashion-MNIST", False))
    assert (run.seed, run.precision, run.parameters, run.epochs) == (3, "bf16-mixed", 402986, 3)
    assert (run.best_epoch, run.at_best("val/acc")) == (2, 0.9375)
    assert (run.tested("acc"), run.tested("loss"), run.test.images) == (0.625, 0.6875, 8)
    assert run.test.checkpoint == "logs/a/checkpoints/best.ckpt"
    assert run.data == run.test.data == Data("Fashion-MNIST", "gz files in data/FashionMNIST/raw", False)
    assert run.started == datetime(2026, 11, 21, 18, 31, 18, tzinfo=UTC)
    assert run.calibration_error == run.test.predictions.calibration.error > 0
    assert setting(run.config, "model", "init_args", "optimizer", "init_args", "lr") == 0.03
    assert run.environment == ENVIRONMENT
    assert set(run.figures) == {"samples", "predictions", "mistakes"}
    assert run.checkpoints == {"best", "last"}


def test_the_network_of_a_general_classifier_is_named(tmp_path):
    config = """\
model:
  class_path: lightning_cnn.classifiers.ImageClassifier
  init_args:
    network:
      class_path: torchvision.models.resnet18
"""
    assert read_summary(write_run(tmp_path / "run", config)).network == "resnet18"


def test_a_run_with_settings_only(tmp_path):
    folder = write_run(tmp_path / "run", None, None, None, None, None, None, ())
    for path in [*folder.glob("checkpoints/*"), *folder.glob("events*")]:
        path.unlink()
    (folder / "config.yaml").write_text("seed_everything: 1\n")
    os.utime(folder / "config.yaml", (1_700_000_000, 1_700_000_000))

    run = read_summary(folder)

    assert (run.network, run.dataset) == ("an unknown network", "an unknown dataset")
    assert (run.data, run.test, run.precision) == (None,) * 3
    assert (run.epochs, run.best_epoch, len(run.history), run.environment) == (0, None, 0, {})
    assert all(
        math.isnan(x)
        for x in (run.at_best("val/acc"), run.tested("acc"), run.tested("loss"), run.calibration_error, run.parameters)
    )
    assert (run.figures, run.checkpoints) == ({}, frozenset())
    assert run.started == datetime.fromtimestamp(1_700_000_000, UTC)


def test_the_results_of_a_checkpoint_outside_its_run(tmp_path):
    run = read_summary(write_run(tmp_path / "run", config=None, metrics=None, data=None, environment=None))

    assert (run.network, run.dataset) == ("an unknown network", "Fashion-MNIST")
    assert run.tested("acc") == 0.625


def test_the_first_of_equal_epochs_is_the_best(tmp_path):
    metrics = "epoch,step,val/acc\n0,1,0.5\n1,2,0.75\n2,3,0.75\n"

    assert read_summary(write_run(tmp_path / "run", metrics=metrics)).best_epoch == 2


def test_without_validation_there_is_no_best_epoch(tmp_path):
    run = read_summary(write_run(tmp_path / "run", metrics="epoch,step,train/loss\n0,1,0.5\n"))

    assert (run.epochs, run.best_epoch) == (1, None)
    assert math.isnan(run.at_best("val/acc"))


def test_a_test_can_be_on_another_dataset(tmp_path):
    test = {**TEST, "data": {"dataset": "MNIST", "origin": "the sample", "sample": True}}
    run = read_summary(write_run(tmp_path / "run", test=test))

    assert (run.dataset, run.evaluated_on) == ("Fashion-MNIST", ("MNIST", True))


def test_without_data_json_the_dataset_is_that_of_the_settings(tmp_path):
    assert read_summary(write_run(tmp_path / "run", data=None)).dataset == "FashionMNIST"


def test_metrics_of_a_test_may_be_nan(tmp_path):
    run = read_summary(write_run(tmp_path / "run", test={**TEST, "test/loss": None}))

    assert math.isnan(run.tested("loss"))


@pytest.mark.parametrize(
    ("settings", "best"),
    [("", 2), ("checkpoints:\n  monitor: val/loss\n  mode: min\n", 2), ("checkpoints:\n  monitor: train/acc\n", 3)],
)
def test_the_best_epoch_is_that_of_the_monitored_metric(tmp_path, settings, best):
    run = read_summary(write_run(tmp_path / "run", config=CONFIG + settings))

    assert run.best_epoch == best
    assert run.at_best("val/acc") == {2: 0.9375, 3: 0.90625}[best]


def test_a_monitored_metric_that_was_not_logged_has_no_best_epoch(tmp_path):
    run = read_summary(write_run(tmp_path / "run", config=CONFIG + "checkpoints:\n  monitor: val/f1\n"))

    assert run.best_epoch is None and math.isnan(run.at_best("val/acc"))


def test_all_metrics_are_read(tmp_path):
    config = CONFIG + "checkpoints:\n  monitor: val/f1\n  mode: min\n"
    metrics = "epoch,step,val/acc,val/f1,val/auroc,train/f1\n0,1,0.5,0.75,0.25,0.5\n1,2,0.25,0.5,0.625,0.875\n"
    run = read_summary(write_run(tmp_path / "run", config, metrics, test={**TEST, "test/f1": 0.25, "test/top5": None}))

    assert (run.monitor, run.mode, run.monitored, run.best_epoch) == ("val/f1", "min", "f1", 2)
    assert run.kinds == ["acc", "loss", "f1", "auroc", "top5"]
    assert [run.at_best(name) for name in ("train/f1", "val/f1", "val/auroc")] == [0.5 + 0.375, 0.5, 0.625]
    assert run.tested("f1") == 0.25
    assert math.isnan(run.tested("top5")) and math.isnan(run.tested("auroc"))


def test_the_monitored_metric_of_older_runs_is_the_accuracy(tmp_path):
    run = read_summary(write_run(tmp_path / "run"))

    assert (run.monitor, run.mode, run.kinds) == ("val/acc", "max", ["acc", "loss"])


def test_a_very_large_checkpoint_is_compared_by_its_time(tmp_path):
    folder = write_run(tmp_path / "run")
    with (folder / "checkpoints" / "best.ckpt").open("wb") as file:
        file.truncate(2**40)
    os.utime(folder / "checkpoints" / "best.ckpt", (1_000, 1_000))
    assert not read_summary(folder).test.is_stale

    os.utime(folder / "test_metrics.json", (500, 500))
    assert read_summary(folder).test.is_stale


def test_predictions_of_an_unfinished_test_are_ignored(tmp_path):
    run = read_summary(write_run(tmp_path / "run", test=None))

    assert run.test is None


def test_the_files_of_a_real_run_are_read(fit, cli):
    folder = fit("fashion_mnist/mlp.yaml", "--plots.enabled", "true", "--plots.test_images", 2)
    untested = read_summary(folder)
    assert cli("test", "--ckpt_path", folder).status == 0
    run = read_summary(folder)

    metrics = json.loads((folder / "test_metrics.json").read_text())
    assert (run.network, run.dataset, run.seed) == ("MLP", "Fashion-MNIST", 0)
    assert (run.epochs, run.best_epoch) == (1, 1)
    assert (run.tested("acc"), run.tested("loss"), run.test.images) == (metrics["test/acc"], metrics["test/loss"], 100)
    assert run.test.predictions.accuracy == pytest.approx(run.tested("acc"))
    assert run.checkpoints == {"best", "last"}
    assert abs((datetime.now(UTC) - run.started).total_seconds()) < 300
    assert "samples" in run.figures and "predictions" in run.figures
    assert (untested.test, untested.at_best("val/acc")) == (None, run.at_best("val/acc"))


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        ({"config": "a: [1"}, r"config\.yaml is not valid YAML: "),
        ({"config": "!!python/object:os.system {}"}, r"config\.yaml is not a valid config: the tag"),
        ({"config": "- 1\n- 2\n"}, r"config\.yaml is not a config"),
        ({"config": ""}, r"config\.yaml is not a config"),
        ({"config": "[" * 50_000}, r"config\.yaml is not a valid config: nested more than 50 deep"),
        ({"metrics": METRICS[:-8] + "x\n"}, r"metrics\.csv is damaged near line 5"),
        ({"data": "{"}, r"data\.json is not valid JSON: "),
        ({"data": "[]"}, r"data\.json must be a JSON object, got \[\]"),
        ({"data": {**DATA, "sample": "no"}}, r"data\.json is damaged or incomplete; repair or delete it"),
        ({"environment": "nonsense"}, r"environment\.json is not valid JSON"),
        ({"environment": "[" * 100_000}, r"environment\.json is not valid JSON: nested more than 50 deep; repair or"),
        ({"environment": "9" * 5_000}, r"environment\.json is not valid JSON: the number 9+… is too large"),
        (
            {"test": {**TEST, "test/loss": math.nan}},
            "test_metrics.json is not valid JSON: NaN is not a number",
        ),
        ({"test": '{"test/acc": 0.5'}, r"test_metrics\.json is not valid JSON"),
        *(
            ({"test": {**TEST, **piece}}, r"test_metrics\.json is damaged or incomplete; test again")
            for piece in (
                {"test/acc": "0.5"},
                {"test/loss": True},
                {"class_names": "abc"},
                {"class_names": ["a", 2]},
                {"class_names": []},
                {"data": {"dataset": "MNIST"}},
                {"checkpoint_sha256": None},
            )
        ),
        ({"predictions": PREDICTIONS[:-1]}, r"test_predictions\.csv has 7 predictions, but .* says 8; test again"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path, piece, message):
    folder = write_run(tmp_path / "run", **piece)

    with pytest.raises(UserError, match=message) as caught:
        read_summary(folder)

    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.yaml", "data.json"])
def test_a_file_that_is_not_text_is_named(tmp_path, name):
    folder = write_run(tmp_path / "run")
    (folder / name).write_bytes(b"\xff\xfe")

    with pytest.raises(UserError, match=rf"{name} is .*not text in UTF-8"):
        read_summary(folder)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(30)])
def test_a_damaged_png_is_named(tmp_path, content):
    folder = write_run(tmp_path / "run")
    (folder / "plots" / "samples.png").write_bytes(content)

    with pytest.raises(UserError, match=r"samples\.png is damaged or not a PNG file; delete it"):
        read_summary(folder)


@pytest.mark.parametrize(
    ("settings", "limits"),
    [
        ("limit_train_batches: null\n  overfit_batches: 0.0", {}),
        ("limit_train_batches: 1.0\n  limit_val_batches: 1.0", {}),
        ("limit_train_batches: 1\n  limit_val_batches: 0.5", {"limit_train_batches": 1, "limit_val_batches": 0.5}),
        ("overfit_batches: 2", {"overfit_batches": 2}),
    ],
)
def test_limits_are_those_settings_that_leave_out_data(tmp_path, settings, limits):
    run = read_summary(write_run(tmp_path / "run", config=CONFIG.replace("max_epochs: 3", settings)))

    assert run.limits == limits
