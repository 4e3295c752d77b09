import platform
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lightning_cnn import environment as module
from lightning_cnn.environment import in_notebook, processor_name
from lightning_cnn.errors import UserError

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


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK must be a whole number, got 'x'; unset it"),
        ({"RANK": "-1"}, "RANK must be a whole number, got '-1'; unset it"),
        ({"PL_GLOBAL_SEED": "abc"}, "PL_GLOBAL_SEED must be a whole number, got 'abc'; unset it"),
        (
            {"TORCHELASTIC_RUN_ID": "digits"},
            "TORCHELASTIC_RUN_ID is set, but not WORLD_SIZE, which torchrun sets",
        ),
    ],
)
def test_an_environment_of_no_launcher_is_refused(environment, variables, message):
    environment(**variables)

    with pytest.raises(UserError, match=message):
        module.require_valid()


def test_environments_of_launchers_are_accepted(environment):
    environment()
    module.require_valid()
    environment(**TORCHRUN, LOCAL_RANK="0", MASTER_ADDR="node", MASTER_PORT="29500")
    module.require_valid()
    environment(LOCAL_RANK="1", NODE_RANK="0", SLURM_PROCID="0")
    module.require_valid()


def test_the_variable_that_decides_on_the_rank_is_named(environment):
    environment(LOCAL_RANK="0", NODE_RANK="1")
    assert module.higher_rank() == "NODE_RANK=1"
    environment(RANK="0", LOCAL_RANK="1")
    assert module.higher_rank() == ""


def test_an_incomplete_array_job_has_the_id_of_its_job(environment):
    environment(SLURM_ARRAY_JOB_ID="5", SLURM_JOB_ID="7")

    assert module.slurm_job_id() == "7"


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


@pytest.mark.parametrize(("config", "expected"), [({"IPKernelApp": {}}, True), ({}, False), (None, False)])
def test_a_notebook_is_the_kernel_of_ipython(config, expected, monkeypatch):
    shell = None if config is None else SimpleNamespace(config=config)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))

    assert in_notebook() is expected


def test_without_ipython_there_is_no_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)

    assert in_notebook() is False
