"""The commands and code of the README and the documentation run on tiny data, in their order, in one folder."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import forks
import numpy as np
import pytest
from checkout import ROOT
from drawing import draw_nothing
from idx import write_idx_dataset
from pages import COMMANDS, EXAMPLES, FILES, TEXT
from PIL import Image, ImageDraw
from script import load
from serve.local import running
from starlette.testclient import TestClient
from sweep import stub
from sweep.program import NO_FIGURES

import lightning_cnn as lc
from benchmarks import __main__ as benchmark
from lightning_cnn import weights
from lightning_cnn.cli import main
from lightning_cnn.commands import data as data_command
from lightning_cnn.commands import sweep as sweep_command
from lightning_cnn.data import FashionMNISTDataModule, MNISTDataModule
from lightning_cnn.data.facts import DatasetFacts
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.serve import server
from lightning_cnn.serve.app import create_app
from lightning_cnn.serve.models import open_models
from lightning_cnn.serve.settings import Settings
from lightning_cnn.startup import filter_warnings
from lightning_cnn.sweep import trial_process, worker
from lightning_cnn.training.parsing import settings_of

#: More images than the default validation set has.
N_TRAIN = 5_200
FASTER = ("--trainer.limit_val_batches=1", "--trainer.limit_train_batches=3", "--data.eval_batch_size=100",
          "--trainer.precision=32-true")  # fmt: skip
SMALL = ("--data.image_size=16", "--model.network.width=4")
WITHOUT_FIGURES = ("--plots.enabled", "false", "--dashboard.enabled", "false")
ONE_DEVICE = ("--trainer.devices", "1", "--trainer.strategy", "auto")


@dataclass
class Workplace:
    """A folder like a fresh checkout, and how many of the commands have run in it."""

    folder: Path
    n_done: int = 0


@pytest.fixture(scope="module")
def checkout_with_tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """The folder that all commands share: each may use the runs of those before it."""
    folder = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delenv("LIGHTNING_CNN_DATA_DIR", raising=False)
        (folder / "configs").symlink_to(ROOT / "configs")
        for module, facts in ((MNISTDataModule, MNIST), (FashionMNISTDataModule, FASHION_MNIST)):
            tiny = write_idx_dataset(folder / "data", facts, n_train=N_TRAIN)
            monkeypatch.setattr(module, "facts", tiny)
            monkeypatch.setitem(data_command.DATASETS, facts.name, tiny)
        (folder / "digits").mkdir()
        digit = Image.new("L", (60, 90), "white")
        ImageDraw.Draw(digit).line((30, 15, 30, 75), fill="black", width=6)
        digit.save(folder / "digits/one.png")
        for name, color in (("cat", "red"), ("dog", "blue")):
            (folder / "photos" / name).mkdir(parents=True)
            for i in range(12):
                Image.new("RGB", (40 + i, 50), color).save(folder / "photos" / name / f"{i}.jpg")
        shutil.copytree(weights.FOLDER, folder / "weights")
        monkeypatch.setattr(weights, "FOLDER", folder / "weights")
        monkeypatch.setenv("LIGHTNING_CNN_CACHE_DIR", str(folder / "cache"))
        for name, code in FILES.items():
            (folder / name).write_text(code)
        pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 28, 28), np.uint8)
        parts = {"train_images": pixels, "train_labels": np.arange(40) % 2}
        parts |= {name.replace("train", "test"): values[:10] for name, values in parts.items()}
        np.savez(folder / "shapes.npz", **parts)
        facts = DatasetFacts("letters", "Letters", "Letters", MNIST.classes, 0.17, 0.33, {})
        letters = write_idx_dataset(folder / "data", facts, n_train=N_TRAIN)
        code = FILES["letters.py"]
        for file, digest in letters.sha256.items():
            assert f'"{file}": "…"' in code
            code = code.replace(f'"{file}": "…"', f'"{file}": "{digest}"')
        (folder / "letters.py").write_text(code)
        yield Workplace(folder)


@pytest.fixture
def workplace(checkout_with_tiny_data: Workplace, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """The shared folder, as the current folder."""
    monkeypatch.chdir(checkout_with_tiny_data.folder)
    return checkout_with_tiny_data


def run_up_to(number: int, workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the commands before `number` that have not run yet: one test may be selected alone."""
    while workplace.n_done < number:
        workplace.n_done += 1
        run(COMMANDS[workplace.n_done - 1], monkeypatch)


def run_script(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(name)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    module.main()


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(command)
    if words[0].startswith("scripts/") and words[0] != "scripts/benchmark":
        assert (ROOT / words[0]).stat().st_mode & 0o111, f"{words[0]} is not executable"  # it runs in test_scripts.py
    elif words[:2] == [".venv/bin/python", "scripts/pictures"]:
        if shutil.which("chromium"):
            monkeypatch.setattr(subprocess, "Popen", forks.Popen)
            run_script("pictures", words[2:], monkeypatch)
            assert Path("docs/pictures/dashboard.png").is_file()
    elif words[:2] == [".venv/bin/python", "scripts/results"]:
        run_script("results", ["--check"], monkeypatch)
    elif words[:2] == [".venv/bin/python", "scripts/weights"]:
        run_script("weights", ["mnist/fast"], monkeypatch)  # the others are trained for minutes
    elif words[:2] == [".venv/bin/python", "scripts/chaos"]:
        run_script("chaos", [*words[2:], "divergence", "--share", "0.01"], monkeypatch)
    elif words[:2] == [".venv/bin/python", "scripts/hostile"]:
        assert (ROOT / words[1]).is_file()  # a share of it runs in tests/hostile
    elif words[:2] == [".venv/bin/python", "scripts/image_files"]:
        run_script("image_files", [*words[2:], "--images", "50"], monkeypatch)
    elif words[:2] == [".venv/bin/python", "scripts/pictures_accuracy"]:
        few = ["--kinds", "dust", "clothes_cut_out", "handwriting_8px", "--num_images", "3"]
        run_script("pictures_accuracy", [*words[2:], *few], monkeypatch)
    elif words[0] == "scripts/benchmark":  # its processes do not have the tiny datasets; see tests/benchmarks
        monkeypatch.setattr(benchmark, "write_uncompressed", lambda *_: None)
        monkeypatch.setattr(benchmark, "run", lambda *_: None)
        assert benchmark.main(words[1:]) == 0
    elif words[0] == "sbatch":
        assert next(word for word in words if word.startswith("scripts/")) == "scripts/slurm.sbatch"  # in test_slurm.py
    elif words[0] == "torchrun":  # several processes are run in tests/distributed
        run(shlex.join(["python", *words[words.index("-m") :]]), monkeypatch)
    elif words[0] == "curl":
        with running(open_models(Settings({"cnn": Path("logs/mnist-cnn/version_0/checkpoints/best.ckpt")}))) as address:
            words = [word.replace("http://127.0.0.1:8000", address) for word in words]
            answer = subprocess.run([*words, "--silent", "--noproxy", "*"], check=True, capture_output=True, text=True)
        assert len(json.loads(answer.stdout)["predictions"][0]["top_k"]) == 3
    elif words[:2] in (["lightning-cnn", "serve"], ["lightning-cnn", "demo"]):  # they run until a signal comes
        asked = []

        def ask(settings: Settings, *_: object) -> None:
            with TestClient(create_app(settings), "http://localhost") as client:
                asked.extend([client.get("/info").json(), client.get("/")])

        monkeypatch.setattr(server, "serve", ask)
        assert main([*words[1:], "--port", "0"]) == 0
        models = [word for word in words[2:] if word == "best" or "/" in word]
        assert len(asked[0]["models"]) == len(models)
        assert ("Draw a digit" in asked[1].text) == (words[1] == "demo")
    elif words[0] == "tensorboard":
        subprocess.run([Path(sys.executable).with_name("tensorboard"), "--inspect", *words[1:]], check=True)
    else:
        assert words[0] == "lightning-cnn" or words[:3] == ["python", "-m", "lightning_cnn"], f"unknown: {command}"
        arguments = words[1:] if words[0] == "lightning-cnn" else words[3:]
        if arguments[0] == "sweep":
            sweep(arguments, monkeypatch)
            return
        if arguments[0] == "fit":
            arguments += FASTER
        if "configs/folder.yaml" in arguments:
            arguments += SMALL
        if "simple_cnn" not in command:  # which scripts/pictures shows
            draw_nothing(monkeypatch)
            arguments += WITHOUT_FIGURES if arguments[0] in ("fit", "test") else ()
        if "--trainer.devices" in arguments:
            arguments += ONE_DEVICE
        assert main(arguments) == 0


def sweep(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Check all trials as `sweep` does, but run a stub in place of `fit`; a file takes the place of a server."""
    monkeypatch.setattr(sweep_command, "_checked", lambda commands: settings_of(*commands))
    monkeypatch.setattr(trial_process, "start", stub.start)
    monkeypatch.setitem(sys.modules, "lightning_cnn.sweep.figures", NO_FIGURES)
    monkeypatch.setattr(worker, "POLL", 0)
    if "--space" in arguments and "--n_trials" not in arguments:
        arguments += ["--n_trials", "2"]
    words = ["sqlite:///shared.db" if word.startswith("postgresql://") else word for word in arguments]
    words = ["2" if flag in ("--seeds", "--folds", "--n_trials") else word for flag, word in pairwise(["", *words])]
    assert main(words) == 0
    if "configs/sweeps/cnn.yaml" in words:  # the stub's settings cannot be trained with
        assert Path("logs/sweep-cnn/best.yaml").is_file()
        shutil.copy("configs/mnist/cnn.yaml", "logs/sweep-cnn/best.yaml")


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=COMMANDS)
def test_command(
    number: int, workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_up_to(number, workplace, monkeypatch)
    capsys.readouterr()

    run_up_to(number + 1, workplace, monkeypatch)

    is_test = re.search(r"lightning-cnn test|lightning_cnn test|fit .*--test true|scripts/weights", COMMANDS[number])
    assert ("Test accuracy: " in capsys.readouterr().out) == bool(is_test)


def run_example(containing: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Run the example that contains this, on a few batches, and return its names."""
    (code,) = (code for code in EXAMPLES if containing in code)
    for name in ("LIMIT_TRAIN_BATCHES", "LIMIT_VAL_BATCHES", "LIMIT_TEST_BATCHES"):
        monkeypatch.setenv(f"PL_TRAINER_{name}", "2")
    filter_warnings()  # of Lightning's own
    names: dict[str, object] = {}
    exec(code, names)
    return names


def test_the_example_with_lightning(
    workplace: Workplace, no_figures: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_TRAINER_DEFAULT_ROOT_DIR", str(tmp_path))

    names = run_example("Trainer(", monkeypatch)

    assert Path(names["best"].best_model_path).is_file()  # type: ignore[attr-defined]
    assert names["data"].batch_size == 128  # type: ignore[attr-defined]


def test_the_example_in_python(
    workplace: Workplace, no_figures: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_TRAINER_DEFAULT_ROOT_DIR", str(tmp_path))

    names = run_example("lc.fit(", monkeypatch)

    run, prediction = names["run"], names["prediction"]
    assert isinstance(run, lc.TrainedRun) and isinstance(prediction, lc.Prediction)
    assert run.metrics.keys() >= {"val/acc", "test/acc"}
    assert (run.folder / "report.html").is_file()
    assert prediction.label in "0123456789" and prediction.seen.max() == 255


def test_onnx_runtime_alone_computes_an_exported_model(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = (code for code in EXAMPLES if "onnxruntime" in code)
    (exported,) = [number for number, command in enumerate(COMMANDS) if command.endswith("--output digits.onnx")]
    run_up_to(exported + 1, workplace, monkeypatch)
    capsys.readouterr()

    exec(code, values := {})

    name, probability = capsys.readouterr().out.split()
    assert name in values["names"] and 0.1 <= float(probability) <= 1
    assert "lightning_cnn" not in code.replace('["lightning_cnn"]', "") and len(code.splitlines()) <= 12


def test_the_commands_have_made_these_runs(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    run_up_to(len(COMMANDS), workplace, monkeypatch)

    assert {folder.name for folder in Path("logs").iterdir()} == {
        "photos-three_stage_cnn", "mnist-resnet18",
        "mnist-cnn", "fashion_mnist-cnn", "mnist-mlp", "mnist-wide_mlp", "letters-cnn", "shapes-cnn", "mnist-fast_cnn",
        "fashion_mnist-fast_cnn", "fashion_mnist-simple_cnn", "fashion_mnist-shallow_cnn", "fashion_mnist-mlp",
        "sweep-cnn", "folds-cnn", "seeds-fast", "seeds-mlp", "seeds-folder", "float32", "rate", "found", "shipped",
        "distilled", "mnist-ensemble", "weights", "fashion_mnist-six_layer_cnn",
        *(f"results-{path.parent.name}-{path.stem}" for path in (ROOT / "results").glob("*/*.csv")),
    }  # fmt: skip


@pytest.mark.parametrize("code", [code for code in EXAMPLES if "assert " in code])
def test_an_example_with_assertions(code: str) -> None:
    exec(code, {})


def test_all_code_is_run() -> None:
    run_above = [code for code in EXAMPLES if any(part in code for part in ("Trainer(", "lc.fit(", "onnxruntime"))]
    used = {
        name for name in FILES if any(f" {Path(name).stem}." in f"{command.replace('=', ' ')}" for command in COMMANDS)
    }

    assert [code for code in EXAMPLES if code not in run_above and "assert " not in code] == []
    assert used == {*FILES}


def test_the_files_that_are_named_exist() -> None:
    named = set(re.findall(r"(?<![\w/.])(?:benchmarks|configs|docs|scripts|lightning_cnn|tests)/[\w./]+\w", TEXT))

    missing = {name for name in named if not (ROOT / name).exists()}
    assert missing - {"docs/_build"} == set()  # it is there after scripts/docs
