import signal
import sys
from pathlib import Path

import pytest

from lightning_cnn.run import Run
from lightning_cnn.sweep import trial_process
from lightning_cnn.sweep.trial_process import TrialProcess, command, newest_run


@pytest.fixture
def make_process(tmp_path, monkeypatch):
    """Start a trial that runs Python code instead of `fit`."""

    def make(code: str) -> TrialProcess:
        monkeypatch.setattr(trial_process, "PROGRAM", (sys.executable, "-c", code))
        return TrialProcess(["fit"], tmp_path)

    return make


def test_the_settings_of_a_trial_come_after_the_flags_of_the_user():
    words = command(Path("cnn.yaml"), ["--plots.enabled=true", "--trainer.max_epochs=3"], {"model.lr": 0.5, "x": None})

    assert words[:3] == ["fit", "--config", "cnn.yaml"]
    assert words.index("--plots.enabled=false") < words.index("--plots.enabled=true")
    assert words[-3:] == ["--trainer.max_epochs=3", "--model.lr=0.5", "--x=null"]


def test_a_trial_gets_its_folder_and_resumes(make_process, tmp_path):
    with make_process("import sys; print(sys.argv[1:])") as process:
        assert process.wait(10) == 0

    assert eval((tmp_path / "stdout.txt").read_text()) == [  # a list of words
        *("fit", f"--trainer.default_root_dir={tmp_path}", "--resume", "auto")
    ]


def test_a_trial_is_no_part_of_the_workers_of_slurm(make_process, tmp_path, monkeypatch):
    for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, "7")
    with make_process("import os; print([name for name in os.environ if name.startswith('SLURM')])") as process:
        process.wait(10)

    assert (tmp_path / "stdout.txt").read_text() == "['SLURM_JOB_ID']\n"


def test_a_trial_that_does_not_stop_is_killed(make_process, tmp_path, monkeypatch):
    monkeypatch.setattr(trial_process, "STOP_PATIENCE", 0.2)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    with make_process(code) as process:
        while not (tmp_path / "stdout.txt").read_text():
            assert process.wait(0.02) is None

    assert process.wait(0) == -signal.SIGKILL


def test_a_trial_ends_when_its_block_is_left_by_an_error(make_process):
    with pytest.raises(ZeroDivisionError), make_process("import time; time.sleep(60)") as process:
        raise ZeroDivisionError

    assert process.wait(0) == -signal.SIGTERM


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
def test_the_error_message_says_how_a_trial_ended(make_process, code, message):
    with make_process(f"import os, sys; {code}") as process:
        process.wait(10)

    assert process.error_message() == message


def test_the_run_of_a_trial_is_its_newest(tmp_path):
    assert newest_run(tmp_path) is None
    for version in (9, 10, 11):
        (tmp_path / "mnist-cnn" / f"version_{version}").mkdir(parents=True)
    for version in (9, 10):  # the other has not begun
        (tmp_path / "mnist-cnn" / f"version_{version}" / "config.yaml").touch()

    assert newest_run(tmp_path) == Run(tmp_path / "mnist-cnn" / "version_10")


def test_it_leaves_no_open_pipe(make_process):
    descriptors = Path("/dev/fd")
    before = len([*descriptors.iterdir()])
    with make_process("pass") as process:
        process.wait(10)

    assert len([*descriptors.iterdir()]) == before
