import re

import pytest
from chaos.interruptions import SMALL
from distributed.processes import run
from filelock import FileLock

from lightning_cnn import checkpoint
from lightning_cnn.files import shipped_config

FIT = ("fit", "--config", shipped_config("mnist/cnn.yaml"), *SMALL.split(), "--trainer.enable_model_summary", "false")


@pytest.fixture
def failing(tiny_data, tmp_path):
    """Train in two processes of which some fail, and return how this has ended: in the end, all by themselves."""

    def fail(faults, **options):
        ended = run(FIT, folder=tmp_path, data=tiny_data, processes=2, environment={"CHILD_FAULTS": faults}, **options)
        assert "it hung" not in ended.output
        assert "gloo/" not in ended.output
        assert "TCPStore.cpp" not in ended.output
        return ended

    return fail


def messages(ended) -> list[str]:
    """The messages with which our command has ended."""
    return [line for line in ended.output.splitlines() if line.startswith("lightning-cnn: ")]


def test_an_error_of_another_process_ends_one_that_hangs(failing, tmp_path):
    ended = failing("1 train 1 user, 0 train 1 hangs")

    assert messages(ended) == [
        "lightning-cnn: error: the value 3 is too large; give less",
        "lightning-cnn: ended because the process of rank 1 failed; see its error",
    ]
    assert "Traceback" not in ended.output
    assert ended.status == 2
    assert not (tmp_path / "logs").exists()


def test_another_process_is_killed(failing, tmp_path):
    ended = failing("1 train 3 killed")
    folder = tmp_path / "logs/mnist-cnn/version_0"

    (line,) = messages(ended)
    assert re.fullmatch(
        r"lightning-cnn: ended because the process of rank 1 was killed by signal 9 \(Killed\); "
        r"resume from step 2 with: lightning-cnn fit logs/mnist-cnn/version_0",
        line,
    )
    assert ended.status == 137
    assert checkpoint.read(folder / "checkpoints/last.ckpt")["global_step"] == 2
    with FileLock(folder / ".lock").acquire(timeout=0):
        pass


def test_torchrun_reports_the_process_that_failed_first(failing):
    ended = failing("1 val 1 bug", launcher="torchrun")

    assert ended.output.count("[rank1]: Traceback (most recent call last)") == 1
    assert ended.output.count("[rank1]: ZeroDivisionError: of the user's own") == 1
    assert "[rank0]: Traceback" not in ended.output
    assert "The above exception" not in ended.output
    assert messages(ended) == ["lightning-cnn: ended because the process of rank 1 failed; see its error"]
    root_cause = ended.output.partition("Root Cause (first observed failure):")[2]
    assert re.match(r"\n\[0\]:\n.*\n.*\n  rank      : 1 ", root_cause)
    assert "ZeroDivisionError: of the user's own" in root_cause
    assert ended.status == 1
