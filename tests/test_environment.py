import platform
import sys
from pathlib import Path

import pytest

from lightning_cnn import environment as module
from lightning_cnn.environment import processor_name

TORCHRUN = {"TORCHELASTIC_RUN_ID": "digits", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "6", "RANK": "0"}


@pytest.fixture
def environment(monkeypatch):
    """Set these variables, and unset all others that launchers set."""

    def set_variables(**variables):
        for name in (*TORCHRUN, "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "SLURM_JOB_ID", "SLURM_RESTART_COUNT"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.mark.parametrize(
    ("variables", "is_rank_zero"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),  # of another machine
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, True),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"NODE_RANK": "1"}, False),
        ({"SLURM_PROCID": "0"}, True),
        ({"SLURM_PROCID": "3"}, False),
        ({"SLURM_PROCID": "3", "RANK": "0"}, True),  # torchrun inside of SLURM
    ],
)
def test_rank_zero_is_found_in_the_environment(environment, variables, is_rank_zero):
    environment(**variables)

    assert module.is_rank_zero() == is_rank_zero


def test_world_size_of_torchrun(environment):
    environment()
    assert module.torchrun_world() is None

    environment(**TORCHRUN)
    assert module.torchrun_world() == (2, 3)


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        ({}, ""),
        ({"TORCHELASTIC_RUN_ID": "digits"}, "torchrun digits"),
        ({"TORCHELASTIC_RUN_ID": "none"}, ""),  # many jobs have this name
        ({"SLURM_JOB_ID": "7", "TORCHELASTIC_RUN_ID": "digits"}, "slurm 7"),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}, "slurm 7_2"),
    ],
)
def test_job_id(environment, variables, job):
    environment(**variables)

    assert module.job_id() == job


@pytest.mark.parametrize(("count", "restarted"), [(None, False), ("0", False), ("2", True)])
def test_requeued_by_slurm(environment, count, restarted):
    environment(**({} if count is None else {"SLURM_RESTART_COUNT": count}))

    assert module.is_requeued_by_slurm() == restarted


def test_the_processor_has_a_name():
    assert processor_name().strip() == processor_name() != ""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/cpuinfo is Linux's")
def test_processor_name_is_that_of_proc_cpuinfo():
    if "model name" not in (info := Path("/proc/cpuinfo").read_text()):
        pytest.skip("this processor has no name")

    assert f": {processor_name()}\n" in info


def test_without_cpuinfo_the_architecture_is_returned(monkeypatch):
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")

    assert processor_name() == "riscv64"
