"""The machine: what it is called, and how this process uses its processor and its memory."""

import ctypes
import platform
from pathlib import Path

import torch

#: Parameters of glibc's `mallopt(3)`.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def cpu_name() -> str:
    """Return the name of the processor, as far as the system knows it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def tune() -> None:
    """Make the process quick at training; results stay the same.

    Memory that is freed is kept for the next step: given back to the system, as glibc does with the large tensors of
    every step, it has to be asked for and cleared again, some thousand pages a step. A step of CNN at batch 64
    takes 15 ms instead of 20 in bfloat16, and 23 instead of 30 in float32 (one core of an AMD EPYC). Numbers too small
    for the normal range are taken for 0; some processors compute with them a hundred times slower.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
    torch.set_flush_denormal(True)
