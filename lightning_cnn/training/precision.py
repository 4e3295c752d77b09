"""The precision probe: train in bfloat16 if it is faster than float32 on this machine and agrees with it.

Processors and releases of torch differ widely: a convolution in bfloat16 may be four times as fast as in float32, or
slower, or wrong. Where the processor has instructions for bfloat16, both are timed and compared on the network itself.
"""

import copy
import json
import math
import platform
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_cnn.environment import processor_name
from lightning_cnn.files import atomic_write, cache_dir
from lightning_cnn.threads import limited_to

Precision = Literal["32-true", "bf16-mixed"]

#: Smallest speedup for which bfloat16 is chosen.
MIN_SPEEDUP = 1.05
#: Largest relative error of logits and of gradients (distance from float32 divided by the norm). bfloat16 rounds each
#: number by up to 0.4 %, which gives 1 % for most networks and 10 % with batch normalisation before training; where a
#: convolution is wrong, it is near 100 %.
MAX_ERROR = 0.2
#: A probe has 40 rounds, or fewer if they take longer than a second, of its own time on a CPU.
_ROUNDS, _SECONDS = 40, 1.0
#: Probability that the speedup is not between its bounds, if rounds differ at random.
_DOUBT = 0.001
#: Seconds after which a remembered measurement is repeated: 30 days.
_MAX_AGE = 30 * 24 * 3600


@dataclass(frozen=True)
class Verdict:
    """How a training step in bfloat16 compares to one in float32.

    Attributes:
        low: Lower bound of the speedup, the time of the step in float32 divided by that in bfloat16.
        high: Upper bound of the speedup; infinite after too few rounds.
        error: Largest relative error of logits and gradients against float32.
    """

    low: float
    high: float
    error: float

    @property
    def agrees(self) -> bool:
        """Whether results in bfloat16 are those in float32, but for rounding."""
        return self.error <= MAX_ERROR

    @property
    def is_sure(self) -> bool:
        """Whether the precision would be the same in another measurement."""
        return not self.agrees or self.low >= MIN_SPEEDUP or self.high < MIN_SPEEDUP

    @property
    def precision(self) -> Precision:
        """The precision to train in; if that is not sure, bfloat16, for which the processor has instructions."""
        return "bf16-mixed" if self.agrees and self.high >= MIN_SPEEDUP else "32-true"

    def __str__(self) -> str:
        if not self.agrees:
            difference = f"differ from float32 by up to {100 * self.error:.0f} %"
            return f"logits and gradients in bfloat16 {difference}, too much to train"
        if not self.is_sure:
            return "the processor has instructions for bfloat16; whether it is faster could not be measured"
        times = f"{self.low:.1f} to {self.high:.1f} times"
        difference = f"logits and gradients differ by up to {100 * self.error:.1f} %"
        return f"a step in bfloat16 is {times} as fast as in float32; {difference}"


def choose(network: nn.Module, images: Tensor, device: torch.device) -> Verdict | None:
    """Return the remembered verdict for a network on this machine, or probe both precisions.

    There is none for a device without instructions for bfloat16, which is many times slower there than float32.

    Only a verdict that is sure is remembered, and only for 30 days.

    Args:
        network: Maps images to logits; it is not changed.
        images: A preprocessed batch, float32 `(B, C, H, W)`.
        device: The device of the training.
    """
    if not has_bfloat16(device):
        return None
    folder = cache_dir()
    if folder is None:  # each run probes again
        return probe(network, images, device)
    cache = folder / "precision.json"
    key, known = _key(network, images, device), _read_cache(cache)
    remembered, age = _remembered(known.get(key))
    if remembered is not None and 0 <= age < _MAX_AGE:
        return remembered
    verdict = probe(network, images, device)
    if not verdict.is_sure or math.isnan(verdict.error):
        return remembered or verdict
    with suppress(OSError):  # without a cache, each run probes again
        cache.parent.mkdir(parents=True, exist_ok=True)
        content = {**known, key: {**asdict(verdict), "measured_at": time.time()}}
        with atomic_write(cache) as path:
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return verdict


def has_bfloat16(device: torch.device) -> bool:
    """Whether the processor or the GPU has instructions for bfloat16."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if platform.machine() in ("x86_64", "AMD64"):  # torch also supports it on processors where it is emulated
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return supported


def probe(network: nn.Module, images: Tensor, device: torch.device) -> Verdict:
    """Time training steps of a copy of the network in both precisions alternately, and compare their results.

    On a CPU, one thread computes and its own time counts: other processes on the same cores do not add to it.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), limited_to(1):
        network = copy.deepcopy(network).to(device).train()
        images = images.to(device)
        with torch.no_grad():
            targets = network(images).argmax(dim=1).roll(1)  # classes of other images, so that the loss is not near 0
        exact, rounded = [_step(network, images, targets, bfloat16) for bfloat16 in (False, True)]
        error = max(_distance(exact.logits, rounded.logits), _distance(exact.gradients, rounded.gradients))
        clock = _clock(device)
        started = clock()
        speedups: list[float] = []  # not of the steps above: the first ones prepare kernels
        while len(speedups) < _ROUNDS and clock() - started < _SECONDS:
            order = (False, True) if len(speedups) % 2 else (True, False)
            seconds = {bfloat16: _step(network, images, targets, bfloat16).seconds for bfloat16 in order}
            speedups.append(seconds[False] / seconds[True] if seconds[True] else math.inf)
    low, high = bounds(speedups)
    return Verdict(round(low, 3), round(high, 3), round(error, 4))


def _clock(device: torch.device) -> Callable[[], float]:
    """Return what measures seconds: on a CPU those of this thread, to which other processes do not add."""
    return time.perf_counter if device.type == "cuda" else time.thread_time


class _Step(NamedTuple):
    seconds: float
    logits: Tensor
    gradients: Tensor


def _step(network: nn.Module, images: Tensor, targets: Tensor, bfloat16: bool) -> _Step:
    """Run forward and backward passes, and return their time and results."""
    torch.manual_seed(0)  # the same dropout in both precisions
    network.zero_grad()
    clock = _clock(images.device)
    started = clock()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
        logits: Tensor = network(images)
        loss = functional.cross_entropy(logits, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    seconds = clock() - started
    gradients = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    return _Step(seconds, logits.detach().float(), gradients)


def _distance(exact: Tensor, other: Tensor) -> float:
    """Return the norm of the difference divided by the norm of the first tensor."""
    return float((other - exact).norm() / exact.norm())


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """Return the bounds of the median of a distribution from which these values are drawn.

    They make no assumption about the distribution: see the sign test, for example in W. J. Conover, "Practical
    Nonparametric Statistics". Of eleven values, the bounds are the smallest and the largest; of fewer, 0 and infinity.

    Example:
        >>> bounds([1.5, 1.4, 1.6] * 10)
        (1.4, 1.6)
        >>> bounds([1.5, 1.4, 1.6])
        (0.0, inf)
    """
    count, outside, tail = len(values), 0, 0.0  # `outside` values can be left out on each side
    while (tail := tail + math.comb(count, outside) / 2**count) <= _DOUBT / 2:
        outside += 1
    if not outside:
        return 0.0, math.inf
    ranked = sorted(values)
    return ranked[outside - 1], ranked[-outside]


def _key(network: nn.Module, images: Tensor, device: torch.device) -> str:
    """Return a key of everything that the verdict depends on."""
    cpu = f"{processor_name()} {torch.backends.cpu.get_cpu_capability()}"
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    shapes = repr([(name, tuple(p.shape)) for name, p in network.named_parameters()])
    architecture = f"{type(network).__name__} {zlib.crc32((shapes + repr(network)).encode()):08x}"
    return " · ".join((processor, f"torch {torch.__version__}", architecture, f"batch {len(images)}"))


def _read_cache(cache: Path) -> dict[str, Any]:
    """Return the content of the cache file; empty if it is missing or damaged, and is to be replaced."""
    with suppress(ValueError, RecursionError, OSError):  # not JSON, not text, or not readable
        known = json.loads(cache.read_text(encoding="utf-8"))
        if isinstance(known, dict):
            return known
    return {}


def _remembered(entry: Any) -> tuple[Verdict | None, float]:
    """Return a verdict and its age in seconds; None if it is missing, damaged or of another release."""
    with suppress(AttributeError, KeyError, TypeError, ValueError, OverflowError):
        numbers = {name: float(value) for name, value in entry.items()}
        age = time.time() - numbers.pop("measured_at")
        verdict = Verdict(**numbers)
        if verdict.is_sure and 0 <= verdict.low <= verdict.high < math.inf and verdict.error >= 0:
            return verdict, age
    return None, math.inf
