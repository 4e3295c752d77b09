"""The public Python API: what it has, and that it is imported only when it is used."""

import gc
import io
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from matplotlib.figure import Figure
from PIL import Image

import lightning_cnn as lc
from lightning_cnn.classifiers import MLPClassifier
from lightning_cnn.data import FashionMNISTDataModule
from lightning_cnn.run import Run

HEAVY = ("torch", "lightning", "numpy", "matplotlib", "jsonargparse", "PIL", "yaml")


def run_python(code: str) -> str:
    """Run code in a process of its own and return what it prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_import_loads_nothing_else():
    found = run_python(
        "import sys; before = {*sys.modules}; import lightning_cnn; print(*sorted({*sys.modules} - before))"
    )

    assert found.split() == ["lightning_cnn"]


@pytest.mark.parametrize("code", ["lightning_cnn.cli.main(['--help'])", "lightning_cnn.UserError"])
def test_the_command_line_and_errors_load_nothing_heavy(code):
    found = run_python(f"import sys, lightning_cnn.cli; {code}; print(*[n for n in {HEAVY} if n in sys.modules])")

    assert found.splitlines()[-1] == ""


def test_every_name_is_found_and_has_a_docstring():
    for name in lc.__all__:
        assert getattr(lc, name).__doc__, name
        assert name in dir(lc)


def test_names_are_looked_up_once():
    assert lc.load is import_module("lightning_cnn.predict.trained").load
    assert vars(lc)["load"] is lc.load


def test_a_misspelt_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'lightning_cnn' has no attribute 'laod'$"):
        lc.laod  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'laod' from 'lightning_cnn'"):
        exec("from lightning_cnn import laod")


def test_everything_can_be_imported_with_a_star():
    names: dict[str, object] = {}
    exec("from lightning_cnn import *", names)

    assert {*lc.__all__} <= names.keys()


def test_type_checkers_see_the_same_names():
    """The imports for type checkers are those of the table; mypy would not notice a name that is missing in it."""
    source = Path(lc.__file__).read_text(encoding="utf-8")
    imports = source.partition("if TYPE_CHECKING:\n")[2].partition("\n\n")[0]

    found: dict[str, object] = {}
    exec("\n".join(line.strip() for line in imports.splitlines()), found)

    assert {name: found[name] for name in lc.__all__} == {name: getattr(lc, name) for name in lc.__all__}


# Training


SHORT = {"max_epochs": 1, "val_size": 50, "precision": "32-true"}
PLAIN = {**SHORT, "plots.enabled": False, "dashboard.enabled": False, "enable_model_summary": False}


def test_fit_trains_and_returns_the_run(tiny_data, capsys):
    run = lc.fit("fashion_mnist/mlp", **{**PLAIN, "max_epochs": 2}, batch_size=50, lr=0.1)

    settings = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert run.folder == Path("logs/fashion_mnist-mlp/version_0")
    assert (settings["trainer"]["max_epochs"], settings["data"]["init_args"]["batch_size"]) == (2, 50)
    assert settings["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.1
    assert len(run.history) == 2
    assert run.metrics.keys() == {"train/loss", "train/acc", "val/loss", "val/acc"}
    assert run.metrics["val/acc"] == run.history.metrics["val/acc"].max()
    assert repr(run) == f"TrainedRun('{run.folder}', val/acc {run.metrics['val/acc']:.4f})"
    assert run.best.is_file() and run.last.is_file()
    out = capsys.readouterr().out
    assert "epoch 2/2" in out and "lightning-cnn" not in out  # no commands


def test_it_gives_the_weights_of_the_command_line(tiny_data, fit):
    plain = {name: value for name, value in PLAIN.items() if name != "enable_model_summary"}
    in_python = lc.fit("mnist/cnn", **plain)

    on_command_line = fit("mnist/cnn.yaml")

    files = (in_python.best, Run(on_command_line).checkpoint("best"))
    first, second = (torch.load(file, weights_only=True) for file in files)
    assert all(torch.equal(weight, second["state_dict"][name]) for name, weight in first["state_dict"].items())


def test_a_run_is_tested_reported_and_loaded(run, tiny_data):
    trained = lc.TrainedRun(run)

    tested = trained.test()

    assert tested.keys() == {"test/acc", "test/loss"} and tested["test/acc"] > 0.5
    assert trained.metrics.items() >= tested.items()
    assert trained.report() == run / "report.html"
    assert f"{100 * tested['test/acc']:.2f} %" in trained.report().read_text(encoding="utf-8")  # replaced
    data = FashionMNISTDataModule()
    data.setup("test")
    classifier = trained.load()
    predicted = classifier(data.test_set.images).argmax(axis=1)
    assert (predicted == data.test_set.targets.numpy()).mean() == pytest.approx(tested["test/acc"])


@pytest.mark.usefixtures("_drawing")
def test_figures_are_those_of_matplotlib_and_notebooks_show_them(run, tiny_data):
    trained = lc.TrainedRun(run)
    assert [*trained.plots] == ["history"]

    trained.test()

    figures = trained.plots
    assert [*figures] == ["history", "confusion_matrix", "calibration", "predictions"]  # there are no mistakes
    for figure in figures.values():
        assert isinstance(figure, Figure)
        assert Image.open(io.BytesIO(figure._repr_png_())).size[0] > 300
    markup = trained._repr_html_()
    assert "<td>val/acc</td>" in markup and markup.count("<img ") == 1


def test_a_run_is_resumed(tiny_data):
    first = lc.fit("fashion_mnist/mlp", **PLAIN)

    for epochs, reference in ((2, first.folder), (3, "last"), (4, first.last)):
        again = lc.fit(ckpt_path=reference, max_epochs=epochs)
        assert again.folder == first.folder and len(again.history) == epochs


def test_a_run_with_a_network_of_the_user_is_tested_and_loaded(tiny_data, user_module):
    own = user_module("own", "from lightning_cnn.networks import MLP\n\nclass Own(MLP):\n    pass\n")

    run = lc.fit(data="MNISTDataModule", network=f"{own}.Own", **PLAIN)

    assert run.folder.parent.name == "mnist-own"
    assert run.test().keys() == {"test/acc", "test/loss"}
    assert run.load()(np.zeros((2, 28, 28), np.uint8)).shape == (2, 10)


def test_errors_are_one_line(tiny_data):
    for keywords, message in (
        ({"max_epoch": 3}, r"^there is no setting 'max_epoch'; did you mean 'max_epochs'\?$"),
        ({"max_epochs": "x"}, r"^--trainer.max_epochs x: expected int$"),
        ({"val_size": 1000}, "val_size"),
        ({"fast_dev_run": True}, r"^--trainer.fast_dev_run writes no run, .* with max_epochs=1, limit_train_batches"),
        ({"barebones": True}, r"^--trainer.barebones writes no run, and `fit` returns one; leave it out"),
        ({"print_config": True}, "^there is no setting 'print_config'"),
    ):
        with pytest.raises(lc.UserError, match=message):
            lc.fit("mnist/cnn", **keywords)
    with pytest.raises(lc.UserError, match=r"^config 'mnist/cn' .* did you mean 'mnist/cnn'\?$"):
        lc.fit("mnist/cn")
    assert not Path("logs").exists()


def test_a_run_without_checkpoints_cannot_be_loaded_or_tested():
    run = lc.TrainedRun("logs/mnist-cnn/version_9")
    run.folder.mkdir(parents=True)

    assert (run.metrics, run.plots, len(run.history)) == ({}, {}, 0)
    for use in (run.load, run.test):
        with pytest.raises(lc.UserError, match=r"^checkpoint logs/.*/best.ckpt does not exist"):
            use()


def test_a_folder_that_is_not_there_is_refused():
    run = lc.TrainedRun("logs/mnist-cnn/version_9")

    assert repr(run) == "TrainedRun('logs/mnist-cnn/version_9')"
    for use in (lambda: run.metrics, lambda: run.history, lambda: run.plots, run.report):
        with pytest.raises(lc.UserError, match=r"^logs/mnist-cnn/version_9 is not the folder of a run; give one"):
            use()


def test_an_interruption_is_that_of_python_and_handlers_are_kept(tiny_data, monkeypatch):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    step = MLPClassifier.training_step

    def interrupted(self, batch, batch_idx):
        if self.trainer.global_step == 2:
            signal.raise_signal(signal.SIGINT)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(MLPClassifier, "training_step", interrupted)

    with pytest.raises(KeyboardInterrupt, match=r"^stopped by SIGINT; resume from step 3 with: lightning-cnn fit"):
        lc.fit("fashion_mnist/mlp", **PLAIN, batch_size=30)

    assert {number: signal.getsignal(number) for number in before} == before


def test_a_damaged_run_is_shown_by_its_folder(tmp_path):
    (tmp_path / "metrics.csv").write_text("no,metrics\n1\n")

    assert repr(lc.TrainedRun(tmp_path)) == f"TrainedRun({str(tmp_path)!r})"


@pytest.mark.parametrize("seed", [None, "7"])
def test_the_process_is_left_as_it_was(tiny_data, unfrozen, monkeypatch, seed):
    torch.set_num_threads(2)
    torch.set_flush_denormal(False)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    if seed is not None:
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)

    lc.fit("fashion_mnist/mlp", **PLAIN, seed_everything=3)

    assert torch.get_num_threads() == 2
    assert os.environ.get("PL_GLOBAL_SEED") == seed
    assert torch.tensor(1e-39).mul(1).item() > 0
    assert gc.isenabled() and gc.get_freeze_count() == 0
