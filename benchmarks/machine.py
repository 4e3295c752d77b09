"""The machine: its name, its peak rate, and the rate of training steps."""

import platform
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bare import optimizer_of, step
from benchmarks.device import best_device, now
from benchmarks.systems import BATCH_SIZE, build
from lightning_cnn.environment import processor_name
from lightning_cnn.startup import tune_process
from lightning_cnn.training.precision import has_bfloat16

#: Side of the square matrices whose product is timed.
MATRIX_SIZE = 2048
WARM_UP = 5


def describe() -> dict[str, str | int | None]:
    """Return the hardware and the versions that speed depends on."""
    return {
        "cpu": processor_name(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "gpus": torch.cuda.device_count(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "lightning": version("lightning"),
    }


def matmul_rates(repeats: int) -> dict[str, float]:
    """Return the best rate of a matrix product in float32 and in bfloat16, in GFLOP/s.

    Without instructions for bfloat16, there is only that of float32: `fit` trains in nothing else, and one product in
    bfloat16 would take many seconds.

    Args:
        repeats: Products to time in each type, at least 1.
    """
    tune_process()
    device = best_device()
    types = {"32-true": torch.float32} | ({"bf16-mixed": torch.bfloat16} if has_bfloat16(device) else {})
    rates = {}
    for name, dtype in types.items():
        a, b = (torch.randn(MATRIX_SIZE, MATRIX_SIZE, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        times = _times(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), repeats)  # type: ignore[misc]
        rates[name] = 2 * MATRIX_SIZE**3 / min(times) / 1e9
    return rates


def training_step(system: str, precision: str) -> Callable[[], None]:
    """Return a function that trains a system on a batch of random images, each time the same.

    Args:
        system: One of `SYSTEMS`.
        precision: One of `bare.PRECISIONS`.
    """
    tune_process()
    device = best_device()
    classifier, _ = build(system, "", allow_sample=False)
    classifier.to(device).train()
    optimizer = optimizer_of(classifier)
    images = torch.randint(256, (BATCH_SIZE, 1, 28, 28), dtype=torch.uint8, device=device)
    targets = torch.randint(10, (BATCH_SIZE,), device=device)
    return partial(step, classifier, optimizer, images, targets, precision)


def step_rate(system: str, precision: str, repeats: int) -> dict[str, float]:
    """Return the floating-point operations of a training step, its median time in seconds and its rate in GFLOP/s.

    Counts convolutions and matrix products, forward and backward; the images are random.

    Args:
        system: One of `SYSTEMS`.
        precision: One of `bare.PRECISIONS`.
        repeats: Steps to time, at least 1.
    """
    step = training_step(system, precision)
    with FlopCounterMode(display=False) as counter:
        step()
    flops = counter.get_total_flops()
    seconds = median(_times(step, repeats))
    return {"flops": flops, "seconds": seconds, "gflops_per_second": flops / seconds / 1e9}


def _times(work: Callable[[], object], repeats: int) -> list[float]:
    """Return the seconds of each repeat, after a few to warm up."""
    times = []
    for _ in range(WARM_UP + repeats):
        started = now()
        work()
        times.append(now() - started)
    return times[WARM_UP:]
