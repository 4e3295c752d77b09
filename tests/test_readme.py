"""Every command and every piece of code in the README is run, on tiny data and in the order in which they stand."""

import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from idx import write_idx_dataset
from PIL import Image, ImageDraw
from script import load

from benchmarks import __main__ as benchmark_command
from lightning_cnn.cli import main
from lightning_cnn.commands import data as data_command
from lightning_cnn.commands import sweep as sweep_command
from lightning_cnn.data import FashionMNISTDataModule, MNISTDataModule
from lightning_cnn.data.facts import DatasetFacts
from lightning_cnn.data.fashion_mnist import FASHION_MNIST
from lightning_cnn.data.mnist import MNIST
from lightning_cnn.sweep import trial_process
from lightning_cnn.sweep.check import check

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [command for block in BLOCKS for line in block.splitlines() if (command := line.partition("#")[0].strip())]
PYTHON = {name: code for code in re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
          for name in re.findall(r"^class (\w+)", code, re.MULTILINE)}  # fmt: skip
#: More images than the default validation set has.
N_TRAIN = 5_200
FASTER = ("--trainer.limit_val_batches", "1", "--trainer.limit_train_batches", "10")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like a fresh checkout, with tiny datasets in place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("LIGHTNING_CNN_DATA_DIR", raising=False)
    Path("configs").symlink_to(ROOT / "configs")
    for module, facts in ((MNISTDataModule, MNIST), (FashionMNISTDataModule, FASHION_MNIST)):
        tiny = write_idx_dataset(Path("data"), facts, n_train=N_TRAIN)
        monkeypatch.setattr(module, "facts", tiny)
        monkeypatch.setitem(data_command.DATASETS, facts.name, tiny)
    Path("digits").mkdir()
    digit = Image.new("L", (60, 90), "white")
    ImageDraw.Draw(digit).line((30, 15, 30, 75), fill="black", width=6)
    digit.save("digits/one.png")
    Path("wide_mlp.py").write_text(PYTHON["WideMLPClassifier"])
    letters = write_idx_dataset(
        Path("data"), DatasetFacts("letters", "Letters", "Letters", MNIST.classes, 0.17, 0.33, {}), n_train=N_TRAIN
    )
    code = PYTHON["LettersDataModule"]
    for file, digest in letters.sha256.items():
        assert f'"{file}": "…"' in code
        code = code.replace(f'"{file}": "…"', f'"{file}": "{digest}"')
    Path("letters.py").write_text(code)
    return tmp_path


def run_script(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(name)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    module.main()


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(command)
    if words[0].startswith("scripts/"):
        assert (ROOT / words[0]).stat().st_mode & 0o111, f"{words[0]} is not executable"  # run in test_scripts.py
    elif words[:2] == [".venv/bin/python", "scripts/pictures"]:
        if shutil.which("chromium"):
            run_script("pictures", words[2:], monkeypatch)
            assert Path("docs/dashboard.png").is_file()
    elif words[:2] == [".venv/bin/python", "scripts/chaos"]:
        run_script("chaos", [*words[2:], "divergence", "--share", "0.05"], monkeypatch)
    elif words[:2] == [".venv/bin/python", "scripts/image_files"]:
        run_script("image_files", [*words[2:], "--images", "50"], monkeypatch)
    elif words[0] == "scripts/benchmark":  # its processes know no tiny datasets; each section has tests of its own
        monkeypatch.setattr(benchmark_command, "unpack", lambda *_: None)
        monkeypatch.setattr(benchmark_command, "_run", lambda *_: None)
        assert benchmark_command.main(words) == 0, command
    elif words[0] == "sbatch":
        assert next(word for word in words if word.startswith("scripts/")) == "scripts/slurm.sbatch"  # in test_slurm.py
    elif words[0] == "torchrun":  # several processes are run in tests/distributed
        run(shlex.join(["python", *words[words.index("-m") :]]), monkeypatch)
    elif words[0] == "tensorboard":
        subprocess.run([Path(sys.executable).with_name("tensorboard"), "--inspect", *words[1:]], check=True)
    else:
        assert words[0] == "lightning-cnn" or words[:3] == ["python", "-m", "lightning_cnn"], f"unknown: {command}"
        arguments = words[1:] if words[0] == "lightning-cnn" else words[3:]
        if arguments[0] == "sweep":
            sweep(arguments, monkeypatch)
            return
        alone = ("--trainer.devices", "1", "--trainer.strategy", "auto") if "--trainer.devices" in arguments else ()
        plain = (
            ("--plots.enabled", "false") if "--test" not in arguments else ()
        )  # pictures that are shown are of tests
        assert main([*arguments, *((*FASTER, *plain) if arguments[0] == "fit" else ()), *alone]) == 0, command


def sweep(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask `fit` about all trials, but let others pretend to train; on a file, if it is said to be on a server."""
    monkeypatch.setattr(sweep_command, "_checked", check)
    monkeypatch.setattr(trial_process, "PROGRAM", (sys.executable, "-m", "sweep.stub"))
    words = ["sqlite:///shared.db" if word.startswith("postgresql://") else word for word in arguments]
    words = ["2" if flag in ("--seeds", "--folds", "--n-trials") else word for flag, word in pairwise(["", *words])]
    assert main(words) == 0, arguments
    if "configs/sweeps/cnn.yaml" in words:  # those who pretend have no settings that could be trained with
        assert Path("logs/sweep-cnn/best.yaml").is_file()
        shutil.copy("configs/mnist/cnn.yaml", "logs/sweep-cnn/best.yaml")


@pytest.mark.usefixtures("workplace")
def test_every_command_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(COMMANDS) > 15
    for command in COMMANDS:
        run(command, monkeypatch)

    assert "Test accuracy: " in capsys.readouterr().out
    folders = {folder.name for folder in Path("logs").iterdir()}
    assert folders == {
        "mnist-cnn", "fashion_mnist-cnn", "mnist-mlp", "mnist-wide_mlp", "letters-cnn", "mnist-fast_cnn",
        "fashion_mnist-fast_cnn", "fashion_mnist-simple_cnn", "fashion_mnist-shallow_cnn", "fashion_mnist-mlp",
        "sweep-cnn", "folds-cnn", "seeds-fast", "seeds-cnn", "seeds-deep_cnn", "seeds-mlp", "seeds-shallow_cnn",
        "seeds-simple_cnn", "float32", "rate", "found", "shipped",
    }  # fmt: skip


def test_the_readme_names_no_file_that_is_not_there() -> None:
    named = set(re.findall(r"\b(?:configs|scripts|lightning_cnn|tests)/[\w./]+\w", README))
    examples = {"lightning_cnn/networks/wide_mlp.py", "configs/mnist/wide_mlp.yaml"}

    assert {name for name in named - examples if not (ROOT / name).exists()} == set()
    assert examples <= named
