"""The environment of this process: rank, world size, job and processor. Imports nothing heavy.

torchrun, SLURM and Lightning set environment variables, which can be read before a process group exists.
"""

import os
import platform
from pathlib import Path


def is_rank_zero() -> bool:
    """Whether this is the process of global rank 0."""
    environment = os.environ
    if "RANK" in environment:  # torchrun
        return environment["RANK"] == "0"
    if "LOCAL_RANK" in environment or "NODE_RANK" in environment:  # Lightning
        return environment.get("LOCAL_RANK", "0") == environment.get("NODE_RANK", "0") == "0"
    return environment.get("SLURM_PROCID", "0") == "0"


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
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID", "")


def is_requeued_by_slurm() -> bool:
    """Whether SLURM has requeued and restarted this job."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


def processor_name() -> str:
    """Return the model name of the processor, or else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
