"""The wheel and the sdist, and the wheel in an environment without this checkout."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest
from checkout import ROOT, unmeasured
from PIL import Image, ImageDraw

from lightning_cnn import __version__

SDIST, WHEEL = f"lightning_cnn-{__version__}.tar.gz", f"lightning_cnn-{__version__}-py3-none-any.whl"
#: A proxy that refuses everything.
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")


def run(*command: object, cwd: Path, **variables: str) -> str:
    """Run a command without the checkout on its path, and return what it prints."""
    environment = unmeasured(**variables)
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, folder: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "--directory", folder, cwd=source, SOURCE_DATE_EPOCH="1700000000")
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of wheel and sdist."""
    return build(ROOT, tmp_path_factory.mktemp("dist"))


def test_an_sdist_gives_the_same_files_at_another_time_and_place(built: Path, tmp_path: Path) -> None:
    with tarfile.open(built / SDIST) as archive:
        archive.extractall(tmp_path, filter="data")
    source = tmp_path / SDIST.removesuffix(".tar.gz")
    for path in source.rglob("*"):
        os.utime(path, (1_500_000_000, 1_500_000_000))

    again = build(source, tmp_path / "dist")

    assert {path.name for path in again.iterdir()} == {SDIST, WHEEL}
    for name in (SDIST, WHEEL):
        assert (again / name).read_bytes() == (built / name).read_bytes()


def test_the_wheel_has_the_package_with_its_files_and_no_tests(built: Path) -> None:
    with ZipFile(built / WHEEL) as wheel:
        names = set(wheel.namelist())
    package = {name for name in names if ".dist-info/" not in name}
    tracked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "lightning_cnn").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    configs = {f"lightning_cnn/{path.relative_to(ROOT).as_posix()}" for path in ROOT.glob("configs/**/*.yaml")}

    assert package == tracked | configs
    assert f"lightning_cnn-{__version__}.dist-info/licenses/LICENSE" in names
    assert {"py.typed", "data/samples/mnist/LICENSE", "report/templates/run.html", "configs/mnist/cnn.yaml"} <= {
        name.removeprefix("lightning_cnn/") for name in package
    }


def test_the_sdist_has_what_a_wheel_is_built_from_and_no_tests(built: Path) -> None:
    with tarfile.open(built / SDIST) as archive:
        names = {name.split("/")[1] for name in archive.getnames()}

    assert {"lightning_cnn", "configs", "pyproject.toml", "README.md", "LICENSE"} <= names
    assert not {"tests", "docs", "scripts", "benchmarks", ".ci", ".github"} & names


@dataclass
class Installed:
    """The folder of an environment with the wheel, and of a user who works with it."""

    environment: Path
    work: Path

    def __call__(self, program: str, *arguments: object) -> str:
        """Run a program of the environment, without a network."""
        return run(self.environment / "bin" / program, *arguments, cwd=self.work, **OFFLINE)


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """A new environment with the wheel; it sees the dependencies in the environment of the tests."""
    uv = shutil.which("uv") or ROOT / ".uv/bin/uv"
    if not Path(uv).is_file():
        pytest.skip("there is no uv here, which scripts/bootstrap fetches")
    folder = tmp_path_factory.mktemp("installed")
    cache = {"UV_CACHE_DIR": str(folder / "cache")}
    run(uv, "venv", "--quiet", "--offline", "--python", sys.executable, "environment", cwd=folder, **cache)
    python = folder / "environment/bin/python"
    run(uv, *("pip", "install", "--offline", "--no-deps", "--python", python, built / WHEEL), cwd=folder, **cache)
    (packages,) = (folder / "environment").glob("lib/python*/site-packages")
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "dependencies.pth").write_text("\n".join(others))  # of which the .pth files are not read
    (folder / "work").mkdir()
    return Installed(folder / "environment", folder / "work")


def test_a_wheel_trains_and_predicts_anywhere(installed: Installed) -> None:
    where = installed("python", "-c", "import lightning_cnn; print(lightning_cnn.__file__)")
    assert Path(where).is_relative_to(installed.environment)
    assert installed("lightning-cnn", "--version") == f"lightning-cnn {__version__}\n"
    assert installed("lightning-cnn", "--help").startswith("usage: lightning-cnn COMMAND")

    shortened = ("--trainer.max_epochs", 1, "--trainer.limit_train_batches", 2, "--trainer.precision", "32-true")
    printed = installed(
        "lightning-cnn", "fit", "--config", "mnist/cnn", "--data.allow_sample", "true", *shortened, "--test", "true"
    )
    assert "Run folder: logs/mnist-cnn/version_0" in printed
    assert (installed.work / "logs/mnist-cnn/version_0/plots/history.png").is_file()

    picture = Image.new("L", (60, 90), "white")
    ImageDraw.Draw(picture).line((30, 15, 30, 75), fill="black", width=6)
    picture.save(installed.work / "one.png")
    assert re.search(r"^one\.png +1 ", installed("lightning-cnn", "predict", "mnist", "one.png"), re.M)  # ready weights
    installed("lightning-cnn", "report", "best")
    assert (installed.work / "logs/mnist-cnn/version_0/report.html").is_file()
