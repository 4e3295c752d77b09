import signal
import sys
from pathlib import Path

import pytest

from lightning_cnn.run import Run
from lightning_cnn.sweep import trial_process
from lightning_cnn.sweep.trial_process import command, error_message, newest_run


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a trial that runs Python code instead of `fit`."""

    def run(code: str):
        monkeypatch.setattr(trial_process, "PROGRAM", (sys.executable, "-c", code))
        return trial_process.start(["fit"], tmp_path)

    return run


def test_the_settings_of_a_trial_come_after_the_flags_of_the_user():
    arguments = command(
        Path("cnn.yaml"), ["--plots.enabled=true", "--trainer.max_epochs=3"], {"model.lr": 0.5, "x": None}
    )

    assert arguments[:3] == ["fit", "--config", "cnn.yaml"]
    assert arguments.index("--plots.enabled=false") < arguments.index("--plots.enabled=true")
    assert arguments[-3:] == ["--trainer.max_epochs=3", "--model.lr=0.5", "--x=null"]


def test_a_trial_gets_its_folder_and_resumes(start, tmp_path):
    with start("import sys; print(sys.argv[1:])") as process:
        assert process.wait(10) == 0

    assert eval((tmp_path / "stdout.txt").read_text()) == [
        *("fit", f"--trainer.default_root_dir={tmp_path}", "--resume", "auto")
    ]


def test_a_trial_is_not_a_task_of_slurm(start, tmp_path, monkeypatch):
    for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, "7")
    with start("import os; print([name for name in os.environ if name.startswith('SLURM')])") as process:
        process.wait(10)

    assert (tmp_path / "stdout.txt").read_text() == "['SLURM_JOB_ID']\n"


def test_a_trial_that_does_not_stop_is_killed(start, tmp_path, monkeypatch):
    monkeypatch.setattr(trial_process, "STOP_PATIENCE", 0.2)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    with start(code) as process:
        while not (tmp_path / "stdout.txt").read_text():
            assert process.poll() is None

    assert process.returncode == -signal.SIGKILL


def test_a_trial_ends_when_its_block_is_left_by_an_error(start):
    with pytest.raises(ZeroDivisionError), start("import time; time.sleep(60)") as process:
        raise ZeroDivisionError

    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("sys.exit(1)", "no message on stderr"),
        ("print('a\\nb\\n\\n', file=sys.stderr); sys.exit(1)", "b"),
        ("print('lightning-cnn: error: no data\\nlooked in:\\n - here', file=sys.stderr); sys.exit(1)", "no data"),
        ("print('a', file=sys.stderr, flush=True); os.kill(os.getpid(), 11)", "killed by SIGSEGV: a"),
        ("os.kill(os.getpid(), 9)", "killed by SIGKILL (perhaps out of memory)"),
    ],
)
def test_the_error_message_says_how_a_trial_ended(start, tmp_path, code, message):
    with start(f"import os, sys; {code}") as process:
        status = process.wait(10)

    assert error_message(status, tmp_path) == message


def test_the_run_of_a_trial_is_its_newest(tmp_path):
    assert newest_run(tmp_path) is None
    for version in (9, 10, 11):
        (tmp_path / "mnist-cnn" / f"version_{version}").mkdir(parents=True)
    for version in (9, 10):  # the other has not started
        (tmp_path / "mnist-cnn" / f"version_{version}" / "config.yaml").touch()

    assert newest_run(tmp_path) == Run(tmp_path / "mnist-cnn" / "version_10")


def test_all_pipes_are_closed(start):
    descriptors = Path("/dev/fd")
    before = len([*descriptors.iterdir()])
    with start("pass") as process:
        process.wait(10)

    assert len([*descriptors.iterdir()]) == before
