import re

import pytest
from chaos.lives import FIT as SHUFFLED
from distributed.processes import run
from filelock import FileLock

from lightning_cnn import checkpoint

FIT = (*SHUFFLED, "--trainer.enable_model_summary", "false")
#: Longest time for a process to be started, to come to its fault and to end, in seconds, on a machine that is busy.
SOON = 60


@pytest.fixture
def failing(tiny_data, tmp_path):
    """Run something in which processes fail, and return how it has ended."""

    def fail(faults, *words, **options):
        ended = run(
            words, folder=tmp_path, data=tiny_data, processes=2, environment={"CHILD_FAULTS": faults}, **options
        )
        assert ended.seconds < SOON, ended.printed
        assert "gloo/" not in ended.printed
        assert "TCPStore.cpp" not in ended.printed
        return ended

    return fail


def said(ended) -> list[str]:
    """What our command has said of its end."""
    return [line for line in ended.printed.splitlines() if line.startswith("lightning-cnn: ")]


def test_a_wrong_value_that_another_process_finds_ends_the_first_although_it_hangs(failing, tmp_path):
    ended = failing("1 train 1 user, 0 train 1 hangs", *FIT)

    assert said(ended) == [
        "lightning-cnn: error: the value 3 is too large; give less",
        "lightning-cnn: ended because the process of rank 1 failed; see its error",
    ]
    assert "Traceback" not in ended.printed
    assert ended.status == 2
    assert not (tmp_path / "logs").exists()


def test_another_process_is_killed(failing, tmp_path):
    ended = failing("1 train 3 killed", *FIT)
    folder = tmp_path / "logs/mnist-cnn/version_0"

    (line,) = said(ended)
    assert re.fullmatch(
        r"lightning-cnn: ended because the process of rank 1 was killed by signal 9 \(Killed\); "
        r"resume from step 2 with: lightning-cnn fit logs/mnist-cnn/version_0",
        line,
    )
    assert ended.status == 137
    assert checkpoint.read(folder / "checkpoints/last.ckpt")["global_step"] == 2
    with FileLock(folder / ".lock").acquire(timeout=0):
        pass


def test_the_users_own_code_fails_in_one_process_of_torchrun(failing):
    ended = failing("1 val 1 bug", *FIT, launcher="torchrun")

    own, _, torchruns = ended.printed.partition("torch/distributed/elastic/multiprocessing/api.py")
    assert own.count("Traceback (most recent call last)") == own.count("ZeroDivisionError: of the user's own") == 1
    assert "The above exception" not in own
    assert said(ended) == ["lightning-cnn: ended because the process of rank 1 failed; see its error"]
    assert re.search(r"Root Cause \(first observed failure\):\n\[0\]:\n.*\n.*\n  rank      : 1 ", torchruns)
    assert ended.status == 1
