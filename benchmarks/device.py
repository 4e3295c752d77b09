"""The device of the benchmark's loops, and a clock that waits for it."""

import time

import torch


def best_device() -> torch.device:
    """Return the accelerator if there is one, otherwise the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def now() -> float:
    """Return the time in seconds, after all pending work of the accelerator is done."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()
