"""Where the loops of the benchmark compute, and a clock that waits for it."""

import time

import torch


def best_device() -> torch.device:
    """Return the GPU if there is one, or else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def now() -> float:
    """Return the time in seconds, after all that was asked of the GPU is done."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()
