"""The environment of this process: rank, world size, job and processor. Imports nothing heavy.

torchrun, SLURM and Lightning set environment variables, which can be read before a process group exists.
"""

import os
import platform
import sys
from pathlib import Path
from typing import Any

from lightning_cnn.errors import UserError

#: Our own variable: the process that has started this one, for a further device.
PARENT = "LIGHTNING_CNN_PARENT"
#: Variables of launchers, and of Lightning, that are read as numbers.
_NUMBERS = (
    *("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    *("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS", "PL_GLOBAL_SEED"),
    PARENT,
)
#: Those of them that are read if torchrun has set its id.
_TORCHRUN = ("WORLD_SIZE", "LOCAL_WORLD_SIZE")


def require_valid() -> None:
    """Refuse variables of launchers that no launcher has set; Lightning reads some of them when it is imported.

    Raises:
        UserError: If one is not a number, or torchrun's are incomplete.
    """
    for name in _NUMBERS:
        if not (value := os.environ.get(name, "0")).isdecimal():
            raise UserError(f"the environment variable {name} must be a whole number, got {value!r}; unset it")
    missing = [name for name in _TORCHRUN if name not in os.environ]
    if "TORCHELASTIC_RUN_ID" in os.environ and missing:
        raise UserError(
            f"the environment variable TORCHELASTIC_RUN_ID is set, but not {missing[0]}, which torchrun sets as well; "
            "unset it, or start with torchrun"
        )


def is_rank_zero() -> bool:
    """Whether this is the process of global rank 0."""
    return not higher_rank()


def higher_rank() -> str:
    """Return the variable that gives this process another rank than 0, such as `LOCAL_RANK=1`; empty if none does."""
    environment = os.environ
    names: tuple[str, ...] = ("SLURM_PROCID",)
    if "RANK" in environment:  # torchrun
        names = ("RANK",)
    elif "LOCAL_RANK" in environment or "NODE_RANK" in environment:  # Lightning
        names = ("LOCAL_RANK", "NODE_RANK")
    return next((f"{name}={environment[name]}" for name in names if environment.get(name, "0") != "0"), "")


def torchrun_world() -> tuple[int, int] | None:
    """Return the number of processes per node and of nodes if torchrun has started this process, otherwise None."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return here, int(os.environ["WORLD_SIZE"]) // here


def job_id() -> str:
    """Return the id of the SLURM or torchrun job, which a restart keeps; empty outside of both."""
    if slurm := slurm_job_id():
        return f"slurm {slurm}"
    run = os.environ.get("TORCHELASTIC_RUN_ID", "none")  # "none": no --rdzv-id was given
    return "" if run == "none" else f"torchrun {run}"


def slurm_job_id() -> str:
    """Return the id of the SLURM job or array task; empty outside of SLURM."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    if array and task:
        return f"{array}_{task}"
    return os.environ.get("SLURM_JOB_ID", "")


def is_requeued_by_slurm() -> bool:
    """Whether SLURM has requeued and restarted this job."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, where a progress bar works although there is no terminal."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def processor_name() -> str:
    """Return the model name of the processor, or else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
