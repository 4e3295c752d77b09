import json
import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Timer, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins.precision import MixedPrecision

from lightning_cnn.classifiers import MLPClassifier
from lightning_cnn.data import FashionMNISTDataModule
from lightning_cnn.errors import DivergenceError, Interrupted, UserError
from lightning_cnn.run import Run
from lightning_cnn.training import setup
from lightning_cnn.training.precision import Verdict


@pytest.fixture
def torchrun(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("torchrun")
def test_torchrun_sets_the_number_of_processes():
    assert setup.complete({"trainer": {"max_epochs": 1}}) == {
        "trainer": {"max_epochs": 1, "devices": 2, "num_nodes": 3}
    }
    assert setup.complete({"trainer": {"devices": "auto"}}) == {"trainer": {"devices": 2, "num_nodes": 3}}


@pytest.mark.usefixtures("torchrun")
def test_the_user_overrides_torchrun():
    assert setup.complete({"trainer": {"devices": 1}}) == {"trainer": {"devices": 1}}


def test_without_torchrun_nothing_is_changed():
    given = {"seed_everything": 3, "trainer": {"max_epochs": 1}}

    assert setup.complete(given) == given


@pytest.mark.parametrize(
    ("given", "precision"), [({}, "32-true"), ({"precision": "auto"}, "32-true"), ({"precision": "64-true"}, "64-true")]
)
def test_a_deterministic_run_probes_no_precision(given, precision):
    completed = setup.complete({"deterministic": True, "trainer": given})

    assert completed["trainer"] == {"precision": precision, "deterministic": True}


# The precision


@pytest.fixture
def probed(monkeypatch):
    """Let the probe find bfloat16 faster; returns the shapes of the images that it was given."""
    shapes = []

    def choose(network, images, device):
        shapes.append(tuple(images.shape))
        return Verdict(low=1.9, high=2.1, error=0.01)

    monkeypatch.setattr(setup.precision, "choose", choose)
    return shapes


def chosen(requested, plugins=None, batch_size=64, accelerator="cpu"):
    options = {"precision": requested, "accelerator": accelerator, "plugins": plugins}
    return setup.choose_precision(options, MLPClassifier(), batch_size)


@pytest.mark.parametrize(("batch_size", "images"), [(64, 64), (1000, 256)])
def test_auto_probes_with_a_batch(probed, batch_size, images):
    assert chosen("auto", batch_size=batch_size) == "bf16-mixed"
    assert probed == [(images, 1, 28, 28)]


@pytest.mark.parametrize(
    ("accelerator", "has_accelerator", "is_probed"),
    [("auto", False, True), ("auto", True, False), ("cpu", True, True), ("mps", True, False)],
)
def test_accelerators_other_than_cuda_are_not_probed(probed, monkeypatch, accelerator, has_accelerator, is_probed):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: has_accelerator)

    assert chosen("auto", accelerator=accelerator) == ("bf16-mixed" if is_probed else "auto")
    assert len(probed) == is_probed


@pytest.mark.parametrize("requested", ["32-true", "bf16-mixed", None])
def test_a_requested_precision_is_taken(probed, requested):
    assert chosen(requested) == requested
    assert probed == []


@pytest.mark.parametrize("half", [16, "16", "16-mixed"])
def test_a_processor_computes_in_bfloat16_where_half_is_requested(half):
    assert chosen(half) == "bf16-mixed"


def test_plugins_may_have_a_precision_of_their_own(probed):
    assert chosen("auto", plugins=[MixedPrecision("bf16-mixed", "cpu")]) == "auto"
    assert probed == []


def test_other_ranks_wait_for_the_choice_of_rank_zero(probed, monkeypatch):
    monkeypatch.setenv("RANK", "1")

    assert chosen("auto") is None
    assert probed == []


# The folder


@pytest.fixture
def new_run(tmp_path):
    return lambda: setup.new_run(tmp_path / "logs", MLPClassifier(), FashionMNISTDataModule())


def test_a_new_run_is_named_after_dataset_and_network_and_locked(new_run, tmp_path):
    with new_run() as run:
        assert run == Run(tmp_path / "logs" / "fashion_mnist-mlp" / "version_0")
        with pytest.raises(UserError, match="another process"), run.lock():
            pass

    with run.lock():
        pass


@pytest.mark.parametrize(
    "error", [UserError("wrong"), Interrupted(signal.SIGTERM), ModuleNotFoundError("psutil")], ids=repr
)
def test_a_refused_run_is_removed_with_its_empty_parents(new_run, tmp_path, error):
    with pytest.raises(type(error)), new_run():
        raise error

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [DivergenceError("nan"), OSError(28, "full"), ZeroDivisionError()], ids=repr)
def test_a_failed_run_is_kept(new_run, error):
    with pytest.raises(type(error)), new_run() as run:
        raise error

    assert run.folder.is_dir()


def test_other_runs_are_kept(new_run):
    def refuse(has_checkpoint):
        with new_run() as run:
            if has_checkpoint:
                run.checkpoints_folder.mkdir()
            raise UserError("wrong")

    for has_checkpoint in (True, False):
        with pytest.raises(UserError):
            refuse(has_checkpoint)

    assert [path.name for path in Path("logs/fashion_mnist-mlp").iterdir()] == ["version_0"]


# Loggers and callbacks


def names(loggers):
    return [type(logger).__name__ for logger in loggers]


def test_the_loggers_of_a_run():
    ours = ["MetricsCSV", "TensorBoard"]
    users = CSVLogger("elsewhere")

    assert names(setup.make_loggers(None, Run(Path("run")), None)) == ours
    assert names(setup.make_loggers(True, Run(Path("run")), None)) == ours
    assert names(setup.make_loggers(users, Run(Path("run")), None)) == ["CSVLogger", *ours]
    assert names(setup.make_loggers([users], Run(Path("run")), None)) == ["CSVLogger", *ours]
    assert setup.make_loggers(False, Run(Path("run")), None) == []


def test_the_callbacks_of_the_user_are_not_changed():
    users = [Timer("00:00:01:00")]

    callbacks = setup.make_callbacks(users, None)

    assert callbacks[0] is users[0]
    assert len(users) == 1
    assert names(callbacks) == ["Timer", "Progress"]
    assert names(setup.make_callbacks(users[0], True)) == ["Timer", "Progress"]
    assert names(setup.make_callbacks(None, None)) == ["Progress"]


def test_a_progress_bar_may_be_disabled_or_replaced():
    bar = TQDMProgressBar()

    assert setup.make_callbacks(None, False) == []
    assert setup.make_callbacks([bar], None) == [bar]


def test_the_probe_leaves_random_numbers_alone(probed):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    model = MLPClassifier()
    torch.manual_seed(0)

    setup.choose_precision({"precision": "auto", "accelerator": "cpu", "plugins": None}, model, 64)

    assert torch.rand(1) == expected


@pytest.fixture
def stopped(tmp_path):
    """A run that was stopped at step 3 with two loggers of the user, each in version 0."""
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    where = str(tmp_path / "own" / "lightning_logs")
    kinds = ("CSVLogger", "TensorBoardLogger")
    run.environment_file.write_text(json.dumps({"loggers": [[kind, where, 0] for kind in kinds]}))
    (folder := tmp_path / "own" / "lightning_logs" / "version_0").mkdir(parents=True)
    (folder / "metrics.csv").write_text("epoch,step,val/acc\r\n0,2,0.5\r\n0,3,0.625\r\n")
    return run


def test_loggers_of_a_resumed_run_go_on_in_their_version(stopped, tmp_path):
    users = [CSVLogger(tmp_path / "own"), TensorBoardLogger(tmp_path / "own"), CSVLogger(tmp_path / "own", version=5)]
    setup.make_loggers(users, stopped, 3)

    for logger in users:
        logger.log_metrics({"val/acc": 0.75}, step=3)
        logger.save()

    assert [logger.version for logger in users] == [0, 0, 5]
    rows = (tmp_path / "own" / "lightning_logs" / "version_0" / "metrics.csv").read_text().split()
    assert rows == ["epoch,step,val/acc", "0,2,0.5", ",3,0.75"]
    new = CSVLogger(tmp_path / "own")
    setup.make_loggers(new, stopped, None)
    assert new.version == 6


def test_a_logger_in_the_run_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"CSVLogger would write into .*; give it another save_dir, name or version"):
        setup.make_loggers(CSVLogger(tmp_path, name="", version="run"), Run(tmp_path / "run"), None)


def test_a_logger_that_cannot_write_is_named():
    Path("taken").write_text("")

    with pytest.raises(
        UserError, match=r"--trainer\.logger CSVLogger cannot write into taken/logs \(not a directory\)"
    ):
        setup.make_loggers(CSVLogger("taken/logs"), Run(Path("run")), None)
