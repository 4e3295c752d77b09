"""What has started this process, maybe beside others: torchrun, SLURM or Lightning say so in its environment."""

import os


def is_first() -> bool:
    """Whether this is the first process of all; to be asked before they can ask each other."""
    environment = os.environ
    if "RANK" in environment:  # torchrun
        return environment["RANK"] == "0"
    if "LOCAL_RANK" in environment or "NODE_RANK" in environment:  # Lightning
        return environment.get("LOCAL_RANK", "0") == environment.get("NODE_RANK", "0") == "0"
    return environment.get("SLURM_PROCID", "0") == "0"


def torchrun_processes() -> tuple[int, int] | None:
    """Return how many processes torchrun has started on this machine, and on how many machines it does so."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return here, int(os.environ["WORLD_SIZE"]) // here


def job() -> str:
    """Return the name of the job, which it keeps when it is started again; empty where nobody would do so."""
    if slurm := slurm_job():
        return f"slurm {slurm}"
    run = os.environ.get("TORCHELASTIC_RUN_ID", "none")  # "none": nobody has chosen a name
    return "" if run == "none" else f"torchrun {run}"


def slurm_job() -> str:
    """Return the name by which SLURM knows the job of this process; empty outside of SLURM."""
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID", "")


def is_restarted_by_slurm() -> bool:
    """Whether SLURM has put the job into its queue again, and has started it again now."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
