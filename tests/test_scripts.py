"""The shell scripts; most tests need a checkout that scripts/bootstrap has installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT

#: Not where .venv is a link to that of another checkout, which the script would replace.
installed = pytest.mark.skipif(
    (ROOT / ".venv").is_symlink() or not (ROOT / ".venv/bootstrapped").is_file(),
    reason="this checkout was not installed by scripts/bootstrap",
)


def run(*command: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=250, check=False
    )


@installed
def test_bootstrap_does_nothing_the_second_time() -> None:
    before = (ROOT / ".venv/bootstrapped").stat().st_mtime_ns

    done = run("scripts/bootstrap")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (ROOT / ".venv/bootstrapped").stat().st_mtime_ns == before


def test_bootstrap_refuses_an_old_python(tmp_path: Path) -> None:
    """The PATH has only what the script needs, and a Python that fails."""
    checkout, tools = tmp_path / "check out", tmp_path / "bin"
    (checkout / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts/bootstrap", checkout / "scripts")
    tools.mkdir()
    for tool in ("sh", "dirname"):
        found = shutil.which(tool)
        assert found is not None
        (tools / tool).symlink_to(found)
    old = tools / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)

    done = run(str(checkout / "scripts/bootstrap"), PATH=str(tools), PYTHON="")

    assert done.returncode == 2
    assert done.stderr.startswith("scripts/bootstrap: error: Python 3.11 or newer is needed")
    assert not (checkout / ".venv").exists()


@installed
def test_bootstrap_keeps_what_is_installed(tmp_path: Path) -> None:
    """Also when the checkout is reached by a link, and another Python comes first."""
    (tmp_path / "link").symlink_to(ROOT)
    other = tmp_path / "bin/python3"
    other.parent.mkdir()
    other.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.99.0\n')
    other.chmod(0o755)
    before = (ROOT / ".venv/bootstrapped").stat().st_mtime_ns

    done = run(str(tmp_path / "link/scripts/bootstrap"), PATH=f"{other.parent}:{os.environ['PATH']}", PYTHON="")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (ROOT / ".venv/bootstrapped").stat().st_mtime_ns == before


def test_bootstrap_names_a_python_that_does_not_start() -> None:
    done = run("scripts/bootstrap", PYTHON="/nonexistent")

    assert done.returncode == 2
    assert done.stderr.startswith("scripts/bootstrap: error: Python 3.11 or newer is needed, not /nonexistent")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout, and a `uv` that notes its arguments and how far it may write."""
    folder = tmp_path / "check out"
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts/bootstrap", folder / "scripts")
    for name in ("pyproject.toml", "requirements.lock", "requirements-oldest.lock"):
        (folder / name).write_text("")
    uv = folder / "bin/uv"
    uv.parent.mkdir()
    uv.write_text(
        f"""#!/bin/sh
echo "$1 $2 cache=$UV_CACHE_DIR" >>uv.log
sleep 0.3
for venv do :; done
[ "$1" != venv ] || {{ mkdir -p "$venv/bin" && ln -s "{sys.executable}" "$venv/bin/python"; }}
"""
    )
    uv.chmod(0o755)
    return folder


def bootstrap(checkout: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["scripts/bootstrap", *arguments],
        cwd=checkout,
        env={**os.environ, "PYTHON": "", **environment, "PATH": f"{checkout}/bin:{os.environ['PATH']}"},
        text=True,
    )


def calls(checkout: Path) -> list[str]:
    """What `uv` was called with."""
    return [line.partition(" cache=")[0] for line in (checkout / "uv.log").read_text().splitlines()]


def test_of_two_bootstraps_at_once_one_waits_for_the_other(checkout: Path) -> None:
    both = [bootstrap(checkout), bootstrap(checkout)]

    assert [process.wait() for process in both] == [0, 0]
    assert calls(checkout) == ["venv --quiet", "pip install", "pip install"]


def test_another_lock_is_installed_into_what_is_there(checkout: Path) -> None:
    bootstrap(checkout).wait()
    (checkout / "requirements.lock").write_text("# another\n")
    bootstrap(checkout).wait()

    assert calls(checkout) == ["venv --quiet", *["pip install"] * 4]


def test_another_lock_may_have_an_environment_of_its_own(checkout: Path) -> None:
    bootstrap(checkout).wait()
    oldest = (".venv-oldest", "requirements-oldest.lock")

    assert [bootstrap(checkout, *oldest).wait() for _ in range(2)] == [0, 0]

    assert calls(checkout) == ["venv --quiet", "pip install", "pip install"] * 2
    assert (checkout / ".venv/bootstrapped").is_file() and (checkout / ".venv-oldest/bootstrapped").is_file()


def test_a_home_that_cannot_be_written_needs_no_cache_there(checkout: Path) -> None:
    assert bootstrap(checkout, HOME="/proc", UV_CACHE_DIR="", XDG_CACHE_HOME="").wait() == 0

    (cache,) = {line.partition(" cache=")[2] for line in (checkout / "uv.log").read_text().splitlines()}
    assert cache == f"{checkout}/.uv/cache"


def test_a_user_without_a_home_gets_one_in_the_checkout(checkout: Path) -> None:
    assert bootstrap(checkout, HOME="", UV_CACHE_DIR="", XDG_CACHE_HOME="").wait() == 0

    assert (checkout / ".uv/home/.cache/uv").is_dir()


@installed
def test_test_passes_its_arguments_on() -> None:
    done = run("scripts/test", "--collect-only", "--quiet", "tests/test_scripts.py")

    assert done.returncode == 0, done.stderr
    assert "test_test_passes_its_arguments_on" in done.stdout


@installed
def test_quickstart_trains_and_tests(real_data_dir: Path, tmp_path: Path) -> None:
    """With few batches, and called from another folder."""
    flags = ("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "5", "--trainer.limit_val_batches", "2")
    flags += ("--dashboard.enabled", "false", "--plots.enabled", "false", "--trainer.default_root_dir")

    done = run(
        str(ROOT / "scripts/quickstart"), *flags, str(tmp_path), cwd=tmp_path, LIGHTNING_CNN_DATA_DIR=str(real_data_dir)
    )

    assert done.returncode == 0, done.stderr
    assert "Test accuracy: " in done.stdout
    assert "of 10,000 images" in done.stdout
    assert f"Run folder: {tmp_path}/fashion_mnist-simple_cnn/version_0" in done.stdout
    assert ".venv/bin/tensorboard --logdir" in done.stdout
    assert (tmp_path / "fashion_mnist-simple_cnn/version_0/test_metrics.json").is_file()
